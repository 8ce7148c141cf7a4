package options

import "strings"

// nearest answers the candidate somebody probably meant, or "".
func nearest(word string, candidates []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	if len(word) > maxWord {
		return ""
	}
	best, least := "", 1+len(plain(word))/4
	for _, c := range candidates {
		if d := distance(plain(word), plain(c)); d <= least && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// maxWord bounds what a meaning is sought for.
const maxWord = 64

// distance is how many letters must be put in, taken out, changed or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
