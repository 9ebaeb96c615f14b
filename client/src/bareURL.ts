/** A URL without query and fragment, which may name a person: metadata is stored as it is. */
export function bareURL(url: string): string {
	return url.split(/[?#]/)[0]!;
}
