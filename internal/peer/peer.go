// Package peer finds the programs somebody else wrote that tests talk to:
// command-line clients, Python modules, Node packages. A test whose peer is not
// on the machine is skipped, and fails when TRIBUTARY_REQUIRE_PEERS=1.
package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// RequireEnv is the variable that turns a missing peer into a failure.
const RequireEnv = "TRIBUTARY_REQUIRE_PEERS"

// Command answers the path of a program such as "mosquitto_pub" or "curl".
func Command(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "program "+name)
	}
	return path
}

// Python answers an interpreter that can import the module: "paho.mqtt.client", "proton".
func Python(t testing.TB, module string) string {
	t.Helper()
	// The distribution's modules belong to its own interpreter, which another
	// python3 may shadow on the PATH.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(python)
		if err != nil {
			continue
		}
		if exec.Command(path, "-c", "import "+module).Run() == nil {
			return path
		}
	}
	missing(t, "Python module "+module)
	return ""
}

// Node answers the interpreter and the environment in which a script can
// require the package ("mqtt", "rhea"). Packages are those of node/package.json
// beside this file, installed by `npm install` there.
func Node(t testing.TB, pkg string) (node string, env []string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "program node")
	}
	modules := filepath.Join(nodeDir(), "node_modules")
	if _, err := os.Stat(filepath.Join(modules, pkg)); err != nil {
		missing(t, "Node package "+pkg)
	}
	return node, append(os.Environ(), "NODE_PATH="+modules)
}

func nodeDir() string { return Script("node") }

// Script answers the path of a file beside this one: a conversation that tests of
// several packages have with a library.
func Script(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), name)
}

// Kernel says that the system's kernel lacks what a test needs.
func Kernel(t testing.TB, what string) {
	t.Helper()
	missing(t, "a kernel with "+what)
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s is not on this machine, and %s=1 wants every peer: .ci/run installs those that can be", what, RequireEnv)
	}
	t.Skipf("%s is not on this machine", what)
}
