package config

import "strings"

// nearest returns the candidate that name was probably meant to be, or "".
func nearest(name string, candidates []string) string {
	const lengthMax = 64 // no key is longer; it bounds the work for a key of a megabyte
	if len(name) > lengthMax {
		return ""
	}
	best, bestDistance := "", len(name)/3+1
	plain := squeeze(name)
	for _, candidate := range candidates {
		if squeeze(candidate) == plain {
			return candidate
		}
		if d := distance(name, candidate); d <= bestDistance && d < len(candidate) && (best == "" || d < bestDistance) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// squeeze removes what people confuse: case, underscores and dashes. batchBytes, batch-bytes and batch_bytes are the same.
func squeeze(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// distance counts the insertions, deletions, substitutions and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// didYouMean makes a hint: the nearest candidate, or all of them if they are few.
func didYouMean(name string, candidates []string) string {
	if guess := nearest(name, candidates); guess != "" {
		return `did you mean ` + quote(guess) + `?`
	}
	const few = 12
	if len(candidates) == 0 || len(candidates) > few {
		return ""
	}
	return "known: " + strings.Join(candidates, ", ")
}
