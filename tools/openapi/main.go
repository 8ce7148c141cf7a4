// Command openapi turns the OpenAPI 2 document that protoc-gen-openapiv2 makes
// of the gRPC files into the OpenAPI 3 document that the server shows, and adds
// what no annotation says: bearer tokens, problem+json and server-sent events.
//
//	go run ./openapi IN.swagger.json OUT.json
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: openapi IN.swagger.json OUT.json")
		os.Exit(2)
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func convert(in, out string) error {
	raw, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var old openapi2.T
	if err := json.Unmarshal(raw, &old); err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	doc, err := openapi2conv.ToV3(&old)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	doc.Info = &openapi3.Info{
		Title: "Tributary", Version: "v1",
		Description: "The REST form of the gRPC services of tributary.v1. Names in paths are percent-encoded once; \"-\" names any device where a call says so.",
		License:     &openapi3.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
	}
	doc.Servers = openapi3.Servers{{URL: "/"}} // where this document came from
	secure(doc)
	delete(doc.Components.Schemas, "Status")
	for _, path := range doc.Paths.Map() {
		for _, op := range path.Operations() {
			finish(op)
		}
	}
	return write(doc, out)
}

// secure asks for a bearer token everywhere and says what a problem looks like.
func secure(doc *openapi3.T) {
	doc.Components.SecuritySchemes = openapi3.SecuritySchemes{"token": {Value: &openapi3.SecurityScheme{
		Type: "http", Scheme: "bearer", Description: "An API token, or the token in admin.token of the server's data directory.",
	}}}
	doc.Security = *openapi3.NewSecurityRequirements().With(openapi3.NewSecurityRequirement().Authenticate("token"))
	problem := openapi3.NewObjectSchema().
		WithProperty("type", openapi3.NewStringSchema()).
		WithProperty("title", openapi3.NewStringSchema()).
		WithProperty("status", openapi3.NewIntegerSchema()).
		WithProperty("detail", openapi3.NewStringSchema()).
		WithProperty("code", openapi3.NewStringSchema())
	problem.Description = "A refusal (RFC 9457). code is the gRPC status code, such as NOT_FOUND."
	problem.Required = []string{"type", "title", "status", "code"}
	doc.Components.Schemas["Problem"] = problem.NewRef()
	text := "The call was refused or failed."
	doc.Components.Responses = openapi3.ResponseBodies{"Problem": {Value: &openapi3.Response{
		Description: &text,
		Content:     openapi3.NewContentWithSchemaRef(openapi3.NewSchemaRef("#/components/schemas/Problem", nil), []string{"application/problem+json"}),
	}}}
}

// finish gives an operation its errors, and a stream its events.
func finish(op *openapi3.Operation) {
	op.Responses.Set("default", &openapi3.ResponseRef{Ref: "#/components/responses/Problem"})
	ok := op.Responses.Value("200").Value
	media := ok.Content.Get("application/json")
	if media == nil || media.Schema == nil || media.Schema.Value == nil {
		return
	}
	if schema := media.Schema.Value; strings.HasPrefix(schema.Title, "Stream result of ") {
		delete(ok.Content, "application/json")
		ok.Content["application/x-ndjson"] = openapi3.NewMediaType().WithSchemaRef(schema.Properties["result"])
		events := openapi3.NewStringSchema()
		events.Description = "Server-sent events, when the request accepts them: the data of each is one result as JSON."
		ok.Content["text/event-stream"] = openapi3.NewMediaType().WithSchema(events)
		text := "A stream, until the caller leaves or nothing more can come: one object a line, or server-sent events."
		ok.Description = &text
	}
}

func write(doc *openapi3.T, out string) error {
	raw, err := doc.MarshalJSON()
	if err != nil {
		return err
	}
	var any any // marshalled again, so that names come in order
	if err := json.Unmarshal(raw, &any); err != nil {
		return err
	}
	if raw, err = json.MarshalIndent(any, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(out, append(raw, '\n'), 0o644)
}
