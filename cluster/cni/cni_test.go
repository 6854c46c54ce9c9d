package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const golden = `{
  "cniVersion": "1.0.0",
  "name": "dind-cluster",
  "plugins": [
    {
      "ipam": {
        "ranges": [
          [
            {
              "subnet": "10.244.3.0/24"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          }
        ],
        "type": "host-local"
      },
      "mtu": 1500,
      "type": "ptp"
    },
    {
      "capabilities": {
        "portMappings": true
      },
      "type": "portmap"
    }
  ]
}
`

// A pod with IPv6 has an address and a route of each family, and waits for nothing.
func TestConfigDual(t *testing.T) {
	got, err := Config([]netip.Prefix{netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("10.244.3.0/24")}, 1400)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Plugins []struct {
			Type string
			MTU  int
			IPAM struct {
				Ranges [][]struct{ Subnet string }
				Routes []struct{ Dst string }
			}
		}
	}
	if err := json.Unmarshal(got, &config); err != nil {
		t.Fatal(err)
	}
	main := config.Plugins[0]
	if text := fmt.Sprint(main.Type, main.MTU, main.IPAM); text != IPv6Plugin+"1400 {[[{fd00:1::/64}] [{10.244.3.0/24}]] [{::/0} {0.0.0.0/0}]}" {
		t.Errorf("got %s", text)
	}
}

// The plugin becomes the one beside it, with the same input and environment.
func TestIPv6Script(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		IPv6Plugin: IPv6Script,
		"ptp":      "#!/bin/sh\necho $CNI_COMMAND $(cat)\n",
		"nsenter":  "#!/bin/sh\necho \"$@\" >\"$CALLS\"\nexit ${FAIL:-0}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ command, fail, want, calls string }{
		{"ADD", "0", "ADD input\n", "--net=/run/netns/x sh -c echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad\n"},
		{"ADD", "3", "", "--net=/run/netns/x sh -c echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad\n"},
		{"DEL", "0", "DEL input\n", ""},
		{"VERSION", "0", "VERSION input\n", ""},
	} {
		calls := filepath.Join(t.TempDir(), "calls")
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, IPv6Plugin))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CNI_COMMAND="+test.command, "CNI_NETNS=/run/netns/x", "CALLS="+calls, "FAIL="+test.fail)
		cmd.Stdin = strings.NewReader("input")
		out, err := cmd.Output()
		called, _ := os.ReadFile(calls)
		if string(out) != test.want || string(called) != test.calls || (err != nil) != (test.fail != "0") {
			t.Errorf("%+v: got %q, %v, called %q", test, out, err, called)
		}
	}
}

func TestConfig(t *testing.T) {
	got, err := Config([]netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != golden {
		t.Errorf("got\n%s\nwant\n%s", got, golden)
	}
}
