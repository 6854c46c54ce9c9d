package verbs

import (
	"slices"
	"testing"
)

func TestCommand(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{[]string{"worker1", "--", "uname", "-r"}, []string{"uname", "-r"}},
		{[]string{"worker1", "uname", "--", "x"}, []string{"uname", "--", "x"}},
		{[]string{"worker1", "--"}, nil},
		{[]string{"worker1"}, nil},
		{nil, nil},
	} {
		if got := Command(test.args); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.args, got, test.want)
		}
	}
}
