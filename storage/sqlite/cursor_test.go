package sqlite

import "testing"

// FuzzCursor reads the cursors clients send back, and those they made up.
func FuzzCursor(f *testing.F) {
	f.Add(makeCursor("text", 1, -1), int64(1<<62), int64(-1), "é")
	f.Add("", int64(0), int64(0), "")
	f.Add("_____w", int64(1), int64(2), "a")
	f.Fuzz(func(t *testing.T, cursor string, a, b int64, text string) {
		var x, y int64
		if got, err := parseCursor(cursor, &x, &y); err == nil {
			if again, err := parseCursor(makeCursor(got, x, y), &a, &b); err != nil || again != got || a != x || b != y {
				t.Fatalf("%q is %d %d %q, and came back as %d %d %q, %v", cursor, x, y, got, a, b, again, err)
			}
			return
		}
		if got, err := parseCursor(makeCursor(text, a, b), &x, &y); err != nil || got != text || x != a || y != b {
			t.Fatalf("%d %d %q came back as %d %d %q, %v", a, b, text, x, y, got, err)
		}
	})
}
