package token_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/token"
)

// memory is a Store that can be cut off.
type memory struct {
	mu       sync.Mutex
	records  map[[2]string][]byte
	watchers map[chan change]bool
	down     error
}

type change struct {
	tenant, name string
	value        []byte
}

func newMemory() *memory {
	return &memory{records: map[[2]string][]byte{}, watchers: map[chan change]bool{}}
}

func (m *memory) Create(_ context.Context, tenant, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[[2]string{tenant, name}] != nil {
		return device.Errorf(device.Conflict, "there is one")
	}
	m.set(tenant, name, bytes.Clone(value))
	return nil
}

func (m *memory) Delete(_ context.Context, tenant, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(tenant, name, nil)
	return nil
}

func (m *memory) set(tenant, name string, value []byte) {
	if m.records[[2]string{tenant, name}] = value; value == nil {
		delete(m.records, [2]string{tenant, name})
	}
	for w := range m.watchers {
		w <- change{tenant, name, value}
	}
}

// cut ends all watches, and refuses new ones until err is nil.
func (m *memory) cut(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
	for w := range m.watchers {
		close(w)
	}
	clear(m.watchers)
}

func (m *memory) Watch(ctx context.Context, ready func(), changed token.ChangeFunc) error {
	m.mu.Lock()
	if m.down != nil {
		defer m.mu.Unlock()
		return m.down
	}
	changes := make(chan change, 100)
	for k, v := range m.records {
		changed(k[0], k[1], v)
	}
	m.watchers[changes] = true
	m.mu.Unlock()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-changes:
			if !ok {
				return errors.New("cut")
			}
			changed(c.tenant, c.name, c.value)
		}
	}
}

var pepper = bytes.Repeat([]byte("p"), 32)

// open is a book at work; it ends with the test.
func open(t *testing.T, store token.Store, change ...func(*token.Config)) *token.Book {
	t.Helper()
	cfg := token.Config{Store: store, Pepper: pepper}
	for _, c := range change {
		c(&cfg)
	}
	b, err := token.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(b.Shutdown(context.Background()), b.Shutdown(context.Background()), <-ended); err != nil {
			t.Error(err)
		}
	})
	return b
}

func create(t *testing.T, b *token.Book, tenant, name string, ttl time.Duration) string {
	t.Helper()
	_, text, err := b.Create(t.Context(), device.Token{Tenant: tenant, Name: name, Role: device.RoleViewer}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wantCode(t *testing.T, err error, code device.Code) {
	t.Helper()
	if err == nil || device.CodeOf(err) != code {
		t.Errorf("answered %v, want %s", err, code)
	}
}

func TestATokenLivesUntilItIsRemoved(t *testing.T) {
	store := newMemory()
	here, there := open(t, store), open(t, store) // two nodes
	text := create(t, here, "acme", "ci", 0)
	if !strings.HasPrefix(text, token.Prefix) || len(text) < 50 {
		t.Errorf("the token is %q", text)
	}
	for _, v := range store.records {
		if bytes.Contains(v, []byte(text[len(token.Prefix):])) {
			t.Error("the store holds the token's text")
		}
	}
	got, life, err := here.Verify(t.Context(), text)
	if err != nil || got.Tenant != "acme" || got.Name != "ci" || got.Role != device.RoleViewer || life.Err() != nil {
		t.Fatalf("verified as %+v, %v", got, err)
	}
	var elsewhere context.Context
	for elsewhere == nil { // as soon as the other node has heard
		if _, elsewhere, err = there.Verify(t.Context(), text); err != nil {
			wantCode(t, err, device.Unauthenticated)
		}
	}
	for _, wrong := range []string{"", "tribt_", text[:len(text)-1], text + "a", strings.ToUpper(text), "trib_" + text[6:], strings.Repeat("a", 1<<20)} {
		_, _, err := here.Verify(t.Context(), wrong)
		wantCode(t, err, device.Unauthenticated)
	}
	_, _, err = here.Create(t.Context(), device.Token{Tenant: "acme", Name: "ci", Role: device.RoleAdmin}, 0)
	wantCode(t, err, device.Conflict)
	wantCode(t, here.Remove(t.Context(), "other", "ci"), device.NotFound)
	if err := here.Remove(t.Context(), "acme", "ci"); err != nil {
		t.Fatal(err)
	}
	if life.Err() == nil {
		t.Error("what the token opened lives on")
	}
	<-elsewhere.Done()
	_, _, err = here.Verify(t.Context(), text)
	wantCode(t, err, device.Unauthenticated)
	wantCode(t, here.Remove(t.Context(), "acme", "ci"), device.NotFound)
	if again := create(t, here, "acme", "ci", 0); again == text {
		t.Error("two tokens are the same")
	}
	_, _, err = here.Verify(t.Context(), text)
	wantCode(t, err, device.Unauthenticated)
}

func TestTokensAreListedByTenantAndName(t *testing.T) {
	b := open(t, newMemory())
	for _, name := range []string{"c", "a", "b"} {
		create(t, b, "acme", name, 0)
		create(t, b, "other", name, 0)
	}
	page, err := b.List(t.Context(), "acme", "", 2)
	if err != nil || len(page) != 2 || page[0].Name != "a" || page[1].Name != "b" || page[0].Tenant != "acme" {
		t.Errorf("answered %v, %v", page, err)
	}
	if page, err = b.List(t.Context(), "acme", "b", 2); err != nil || len(page) != 1 || page[0].Name != "c" {
		t.Errorf("then %v, %v", page, err)
	}
}

func TestATokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, newMemory())
		text := create(t, b, "acme", "ci", 90*24*time.Hour)
		_, life, err := b.Verify(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(90*24*time.Hour - time.Second)
		if life.Err() != nil {
			t.Error("it expired too soon")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, _, err = b.Verify(t.Context(), text)
		if wantCode(t, err, device.Unauthenticated); life.Err() == nil {
			t.Error("what an expired token opened lives on")
		}
		if all, _ := b.List(t.Context(), "acme", "", 9); len(all) != 1 {
			t.Error("an expired token is not listed")
		}
	})
}

// TestWhileNothingIsHeardNobodyIsLetIn, and what was removed meanwhile ends
// once it is heard of.
func TestWhileNothingIsHeardNobodyIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		b := open(t, store)
		kept, gone := create(t, b, "acme", "kept", 0), create(t, b, "acme", "gone", 0)
		_, keptLife, _ := b.Verify(t.Context(), kept)
		_, goneLife, _ := b.Verify(t.Context(), gone)
		store.cut(errors.New("no NATS"))
		if err := store.Delete(t.Context(), "acme", "gone"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, text := range []string{kept, gone} {
			_, _, err := b.Verify(t.Context(), text)
			wantCode(t, err, device.Unavailable)
		}
		store.cut(nil)
		if _, _, err := b.Verify(t.Context(), kept); err != nil || keptLife.Err() != nil {
			t.Errorf("a token that is there is answered %v, what it opened %v", err, keptLife.Err())
		}
		_, _, err := b.Verify(t.Context(), gone)
		if wantCode(t, err, device.Unauthenticated); goneLife.Err() == nil {
			t.Error("what a removed token opened lives on")
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	var log bytes.Buffer
	store := newMemory()
	for name, value := range map[string]string{
		"not-json": "{", "another": `{"tenant":"acme","name":"x","role":"admin","hash":"` + strings.Repeat("A", 43) + `="}`,
		"short": `{"tenant":"acme","name":"short","role":"admin","hash":"AAAA"}`, "role": `{"tenant":"acme","name":"role","role":"god","hash":"` + strings.Repeat("A", 43) + `="}`,
	} {
		store.records[[2]string{"acme", name}] = []byte(value)
	}
	b := open(t, store, func(c *token.Config) { c.MaxPerTenant = 1; c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if all, err := b.List(t.Context(), "acme", "", 9); err != nil || len(all) != 0 || strings.Count(log.String(), "is left out") != 4 {
		t.Errorf("records that are none are listed as %v, %v:\n%s", all, err, &log)
	}
	for _, wrong := range []device.Token{
		{Tenant: "acme", Role: device.RoleAdmin}, {Name: "a", Role: device.RoleAdmin}, {Tenant: "acme", Name: "a"},
		{Tenant: "acme", Name: "a", Role: "god"}, {Tenant: "acme", Name: "a/b", Role: device.RoleAdmin},
	} {
		_, _, err := b.Create(t.Context(), wrong, 0)
		wantCode(t, err, device.Invalid)
	}
	_, _, err := b.Create(t.Context(), device.Token{Tenant: "acme", Name: "a", Role: device.RoleAdmin}, -1)
	wantCode(t, err, device.Invalid)
	text := create(t, b, "acme", "one", 0)
	_, _, err = b.Create(t.Context(), device.Token{Tenant: "acme", Name: "two", Role: device.RoleAdmin}, 0)
	wantCode(t, err, device.Precondition)
	create(t, b, "other", "one", 0)
	if strings.Contains(log.String(), text) {
		t.Error("the log holds a token")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]token.Config{
		"no store": {Pepper: pepper}, "no pepper": {Store: newMemory()}, "negative": {Store: newMemory(), Pepper: pepper, MaxPerTenant: -1},
	} {
		if _, err := token.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	b, err := token.New(token.Config{Store: newMemory(), Pepper: pepper})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Shutdown(t.Context()), b.Run(t.Context())); err != nil {
		t.Errorf("Shutdown before Run: %v", err)
	}
}
