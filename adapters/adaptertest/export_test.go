package adaptertest

import "time"

// Broken plays every rule against the subject and names those it breaks.
// It waits less than Check: a broken adapter often answers with silence.
func Broken(subject Subject) map[string]error {
	broken := map[string]error{}
	for _, rules := range [][]rule{telemetryRules, commandRules, lifeRules} {
		for _, r := range rules {
			if err := r.check(subject, 3*time.Second); err != nil {
				broken[r.name] = err
			}
		}
	}
	return broken
}
