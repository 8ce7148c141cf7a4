package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	nats "github.com/nats-io/nats-server/v2/server"
)

// vault holds what nobody may read in a log, on /metrics or in an error.
type vault struct {
	t       *testing.T
	secrets map[string]string // by what they are
}

// keep adds a secret.
func (v *vault) keep(what, secret string) string {
	v.t.Helper()
	if len(secret) < 8 {
		v.t.Fatalf("%s is too short to be looked for: %q", what, secret)
	}
	v.secrets[what] = secret
	return secret
}

// closed checks that text holds no secret, in none of the forms it travels in.
func (v *vault) closed(where, text string) {
	v.t.Helper()
	for what, secret := range v.secrets {
		for form, found := range map[string]string{
			"plain": secret, "hex": hex.EncodeToString([]byte(secret)), "base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
			"basic": inBase64("dev-a:", secret), "basic of others": inBase64("nobody:", secret), "bytes": fmt.Sprint([]byte(secret)),
		} {
			if strings.Contains(text, found) {
				v.t.Errorf("%s holds %s (%s):\n%s", where, what, form, around(text, found))
			}
		}
	}
}

// inBase64 is the part of a Basic credential that only the secret decides.
func inBase64(user, secret string) string {
	whole := base64.StdEncoding.EncodeToString([]byte(user + secret))
	return strings.TrimRight(whole[(len(user)+2)/3*4:], "=")[:8]
}

func around(text, found string) string {
	i := strings.Index(text, found)
	return text[max(0, i-300):min(len(text), i+100)]
}

// TestNoSecretIsTold sends secrets, right and wrong, through every door in
// every form that is understood or broken, and looks for them in everything the
// server and the command line say, at debug level.
func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--log-level", "debug", "--log-format", "json")
	v := &vault{t, map[string]string{}}
	v.keepFiles(data)
	first := v.keep("a device's secret", s.addDevice("dev-a"))
	wrong := v.keep("a wrong secret", "canary-bird-in-a-coal-mine")
	v.everyDoor(s, first, wrong)
	second := v.keep("a new secret", parseLines[struct{ Secret string }](t, s.client("device", "rotate", "dev-a", "-o", "json"))[0].Secret)
	v.everyDoor(s, second, first)
	v.broken(s, wrong)
	s.client("send", "dev-a", "heat", "{}", "--ttl", "1s")
	s.client("device", "disable", "dev-a")
	v.closed("a refusal of a disabled device", fmt.Sprint(knockMQTT(t.Context(), s, "dev-a", second, "dev-a")))
	s.client("device", "rm", "dev-a")
	for _, page := range []string{"/metrics", "/healthz", "/readyz", "/nowhere"} {
		body, err := askHTTP(t.Context(), "http://"+s.addresses["admin"]+page, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+wrong) })
		v.closed(page, fmt.Sprint(body, err))
	}
	v.closed("device list", s.client("device", "list", "-o", "json"))
	v.apiTokens(s)
	s.stop()
	if n := strings.Count(s.log.String(), "\n"); n < 20 || !strings.Contains(s.log.String(), `"remote"`) {
		t.Errorf("the log has %d lines: nothing was looked through\n%s", n, s.log)
	}
	v.closed("the log", s.log.String())
}

// apiTokens makes one, shows it while it is good and when it is not, and looks
// at what is told of it.
func (v *vault) apiTokens(s *server) {
	v.t.Helper()
	text, _ := s.newToken("canary", "viewer", "default")
	v.keep("an API token", text)
	base := restOf{v.t, "http://" + s.addresses["admin"], text}
	for _, c := range []struct {
		path string
		code int
	}{{"/v1/tenants/default/telemetry:latest", 200}, {"/v1/tenants/other/telemetry:latest", 403}, {"/v1/tenants/default/tokens", 403}} {
		code, body := base.code(c.path)
		if code != c.code {
			v.t.Errorf("%s with an API token is answered %d %s", c.path, code, body)
		}
		v.closed(c.path, body)
	}
	v.closed("token list", s.client("token", "list", "-o", "json"))
	s.client("token", "rm", "canary")
	code, body := base.code("/v1/tenants/default/telemetry:latest")
	if code != 401 {
		v.t.Errorf("with a removed API token the answer is %d %s", code, body)
	}
	v.closed("a refusal of a removed API token", body)
}

// keepFiles adds what the server made for itself.
func (v *vault) keepFiles(data string) {
	v.t.Helper()
	for _, name := range []string{tokenFile, pepperFile} {
		raw, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			v.t.Fatal(err)
		}
		v.keep(name, strings.TrimSpace(string(raw)))
	}
}

// everyDoor shows a right secret, a wrong one, one too long, one without a name
// and none at every door.
func (v *vault) everyDoor(s *server, right, wrong string) {
	v.t.Helper()
	token := v.secrets[tokenFile]
	for door, knock := range knocks {
		good := right
		if door == "grpc" || door == "nats" {
			good = token
		}
		if err := knock(v.t.Context(), s, "dev-a", good, "dev-a"); err != nil {
			v.t.Errorf("%s: the right secret is refused: %v", door, err)
		}
		for _, c := range [][2]string{{"dev-a", wrong}, {"nobody", wrong}, {"a/b@c@d", wrong}, {"", wrong}, {"dev-a", strings.Repeat(wrong, 40)}, {"dev-a", right + "x"}, {"", ""}} {
			err := knock(v.t.Context(), s, c[0], c[1], "dev-a")
			if err == nil {
				v.t.Errorf("%s let %q in with %q", door, c[0], c[1])
			}
			v.closed("the refusal of "+door, fmt.Sprint(err))
		}
	}
}

// broken throws credentials at the doors in forms that cannot be understood.
func (v *vault) broken(s *server, secret string) {
	v.t.Helper()
	connect := append([]byte("\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x05dev-a\x00"), byte(len(secret)))
	connect = append(append(connect, secret...), "and more"...)
	for what, raw := range map[string]string{
		"mqtt":       "\x10" + string(rune(len(connect))) + string(connect),
		"mqtt short": "\x10\x40" + string(connect[:30]),
		"amqp":       "AMQP\x03\x01\x00\x00" + saslInit("\x00dev-a\x00"+secret+"\x00more"),
		"amqp alone": "AMQP\x03\x01\x00\x00" + saslInit(secret),
		"http":       "POST /v1/devices/dev-a/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
		"http basic": "GET /v1/devices/dev-a/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + secret + "\r\nConnection: close\r\n\r\n",
		"http head":  "GET / HTTP/1.1\r\nHost: x\r\nAuthorization Basic " + secret + "\r\n\r\n",
		"grpc":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + secret,
		"admin":      "GET /metrics HTTP/1.1\r\nHost x\r\nAuthorization: " + secret + "\r\n\r\n",
		"nats":       `CONNECT {"user":"reader","pass":"` + secret + `","jwt":"` + secret + `"` + "\r\nPING\r\n",
		"nats token": `CONNECT {"auth_token":"` + secret + `"}` + "\r\nPING\r\n",
	} {
		door, _, _ := strings.Cut(what, " ")
		v.closed("the answer to a broken "+what, throw(v.t, s.addresses[door], []byte(raw)))
	}
}

// saslInit is a frame that begins SASL PLAIN (AMQP 1.0 part 5, section 3.3.3.2).
func saslInit(response string) string {
	body := "\xa3\x05PLAIN\xa0" + string([]byte{byte(len(response))}) + response
	described := "\x00\x53\x41\xc0" + string([]byte{byte(len(body) + 1), 2}) + body
	return string([]byte{0, 0, 0, byte(len(described) + 8), 2, 1, 0, 0}) + described
}

// TestNoSecretOfAURLIsTold: passwords of an external NATS server, right, wrong,
// misspelt, unreachable.
func TestNoSecretOfAURLIsTold(t *testing.T) {
	t.Parallel()
	v := &vault{t, map[string]string{}}
	right, wrong := v.keep("the right password", "open-sesame-please"), v.keep("a wrong password", "canary-bird-in-a-coal-mine")
	ns, err := nats.NewServer(&nats.Options{Host: "127.0.0.1", Port: nats.RANDOM_PORT, NoSigs: true, NoLog: true, Username: "u", Password: right,
		JetStream: true, StoreDir: t.TempDir(), MaxPayload: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	at := ns.Addr().String()
	data := t.TempDir()
	s := serve(t, data, "--open", "--log-level", "debug", "--drain-timeout", "2s", "--nats", "nats://u:"+right+"@"+at, "--store", "sqlite:"+data+"/rows.db")
	if err := knockMQTT(t.Context(), s, "", "", "dev-a"); err != nil {
		t.Error(err)
	}
	ns.Shutdown() // the connections end, and are tried again
	eventually(t, "the loss to be told", func() bool { return !ready(t.Context(), s) })
	s.end(syscall.SIGTERM)
	v.closed("the log", s.log.String())
	for what, url := range map[string]string{"unreachable": "nats://u:" + wrong + "@127.0.0.1:1", "misspelt": "nats://u:" + wrong + "%zz@127.0.0.1:1", "no port": "nats://u:" + wrong + "@127.0.0.1:x", "odd": "postgres://u:" + wrong + "@h?password=" + wrong} {
		for _, args := range [][]string{{"serve", "--nats", url, "--store", "sqlite:" + data + "/rows.db"}, {"serve", "--store", url}, {"serve", "--mqtt", url}, {"serve", "--durability", url}} {
			v.failing(what, nil, append(args, "--data", t.TempDir(), "--log-level", "debug")...)
		}
		v.failing(what, []string{"TRIBUTARY_STORE=" + url, "TRIBUTARY_DRAIN_TIMEOUT=" + url, "TRIBUTARY_PASSWORD=" + wrong}, "config", "check")
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte("store: {url: '"+url+"'}\nroles: '"+url+"'\nnats: '"+url+"'\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		v.failing(what, nil, "config", "check", file)
	}
}

func ready(ctx context.Context, s *server) bool {
	_, err := askHTTP(ctx, "http://"+s.addresses["admin"]+"/readyz", func(*http.Request) {})
	return err == nil
}

// failing runs a command line that must fail, and looks at what it says.
func (v *vault) failing(what string, env []string, args ...string) {
	v.t.Helper()
	cmd := program(v.t.Context(), args...)
	cmd.Env = append(cmd.Env, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || out.Len() == 0 {
		v.t.Errorf("%s: %v ended with %v and said %q", what, args, err, &out)
	}
	v.closed(what+" "+args[0], out.String())
}
