package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestOpenAPI reads what the server shows and finds every call in it.
func TestOpenAPI(t *testing.T) {
	r := openREST(t)
	resp, err := http.Get(r.base + "/openapi.json") // no token
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := openapi3.NewLoader().LoadFromIoReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	described := map[string]*openapi3.Operation{}
	for _, path := range doc.Paths.Map() {
		for _, op := range path.Operations() {
			described[op.OperationID] = op
		}
	}
	calls := 0
	for name, service := range r.server.Services() {
		short, ours := strings.CutPrefix(name, "tributary.v1.")
		if !ours {
			continue
		}
		for _, m := range service.Methods {
			calls++
			op := described[short+"_"+m.Name]
			if op == nil {
				t.Errorf("%s.%s is not described: give it a google.api.http annotation", short, m.Name)
				continue
			}
			content := op.Responses.Value("200").Value.Content
			if m.IsServerStream != (content["text/event-stream"] != nil) {
				t.Errorf("%s.%s answers %v", short, m.Name, content)
			}
			if op.Responses.Value("default").Ref != "#/components/responses/Problem" {
				t.Errorf("%s.%s does not say what a refusal is", short, m.Name)
			}
		}
	}
	if calls < 15 {
		t.Errorf("only %d calls were found", calls)
	}
}
