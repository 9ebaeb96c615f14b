/** How this document came: the browser's own record of it. Old ones and privacy tools have none. */
export function navigationTiming(): Partial<PerformanceNavigationTiming> {
	return (performance.getEntriesByType("navigation")[0] || {}) as PerformanceNavigationTiming;
}

/** Whether the document was made for an earlier visit, or ahead of this one: it comes out of history or a cache. */
export function fromCache(): boolean {
	const { type, transferSize, decodedBodySize } = navigationTiming();
	return !transferSize && (type === "back_forward" || !!decodedBodySize);
}
