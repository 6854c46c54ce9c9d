package cni

import (
	"net/netip"
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

func TestConfig(t *testing.T) {
	got, err := Config([]netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != golden {
		t.Errorf("got\n%s\nwant\n%s", got, golden)
	}
}
