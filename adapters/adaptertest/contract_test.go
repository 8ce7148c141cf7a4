package adaptertest_test

import (
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
)

func TestContract(t *testing.T) {
	adaptertest.Check(t, adaptertest.Subject{Open: openToy(""), Dial: dialToy})
}

// A checker that finds nothing proves nothing: each flaw must break its rule.
func TestContractFindsFlaws(t *testing.T) {
	for flaw, rule := range map[string]string{
		"acknowledges first":          "acknowledges last",
		"swallows refusals":           "refuses what the house refuses",
		"believes the payload":        "stamps who the connection is",
		"speaks for anybody":          "lets nobody speak for another",
		"leaves no trail":             "lets nobody speak for another",
		"never detaches":              "gives back what was not settled",
		"lets everybody in":           "turns a wrong secret away",
		"leaves a trail of strangers": "turns everybody away while identity is unknown",
		"shares its buffer":           "keeps payloads apart",
		"settles unasked":             "settles a command exactly once",
		"hides repeats":               "gives back what was not settled",
		"cuts on stop":                "drains what it accepted",
		"second stop fails":           "may be stopped twice",
		"serve answers an error":      "may be stopped before it serves",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			// A flaw may come out too late to be seen, on a machine that is busy: it
			// need not break its rule every time.
			var broken map[string]error
			for range 10 {
				if broken = adaptertest.Broken(adaptertest.Subject{Open: openToy(flaw), Dial: dialToy}); broken[rule] != nil {
					return
				}
			}
			t.Errorf("an adapter that %s passes %q; broken: %v", flaw, rule, broken)
		})
	}
}
