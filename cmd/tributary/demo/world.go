package demo

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// world is everything the demo knows, shared by its devices, its rule and its view.
type world struct {
	thermostats []*thermostat
	started     time.Time

	mu       sync.Mutex
	commands map[string]commandSeen // by command id
}

// commandSeen is a command as the rule last saw it.
type commandSeen struct {
	device, name, state string
	at                  time.Time
}

func newWorld(perDoor int) *world {
	w := &world{started: time.Now(), commands: map[string]commandSeen{}}
	for _, door := range doors {
		for i := range perDoor {
			t := &thermostat{
				name: fmt.Sprintf("thermostat-%s-%d", door.protocol, i+1), door: door,
				temperature: 18.5 + 0.7*float64(i), acked: map[int]bool{},
			}
			w.thermostats = append(w.thermostats, t)
		}
	}
	return w
}

func (w *world) find(name string) *thermostat {
	for _, t := range w.thermostats {
		if t.name == name {
			return t
		}
	}
	return nil
}

// saw records how a command stands.
func (w *world) saw(id, deviceName, name, state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands[id] = commandSeen{deviceName, name, state, time.Now()}
}

// tally counts the commands by protocol and state.
func (w *world) tally() map[string]map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]map[string]int{}
	for _, c := range w.commands {
		t := w.find(c.device)
		if t == nil {
			continue
		}
		if counts[t.door.protocol] == nil {
			counts[t.door.protocol] = map[string]int{}
		}
		counts[t.door.protocol][c.state]++
	}
	return counts
}

// recent lists the newest commands, newest first.
func (w *world) recent(n int) []commandSeen {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []commandSeen
	for _, c := range w.commands {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b commandSeen) int { return b.at.Compare(a.at) })
	return all[:min(n, len(all))]
}
