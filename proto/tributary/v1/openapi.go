package tributaryv1

import _ "embed"

//go:embed openapi.json
var openAPI string

// OpenAPI is the OpenAPI 3 document of the REST gateway, generated with it.
func OpenAPI() string { return openAPI }
