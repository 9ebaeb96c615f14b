/** How this document came: the browser's own record of it. Old ones and privacy tools have none. */
export function navigationTiming(): Partial<PerformanceNavigationTiming> {
	return (performance.getEntriesByType("navigation")[0] || {}) as PerformanceNavigationTiming;
}
