package main

import "testing"

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    string
	}{
		{nil, "busybox"},
		{[]string{"PATH=/bin", "_X1=", "a=b=c-d"}, "busybox"},
		{[]string{"PATH=/bin", "data-1=value"}, "bash-static"},
		{[]string{"1data=value"}, "bash-static"},
		{[]string{"a.b=value"}, "bash-static"},
		{[]string{"=value"}, "bash-static"},
		{[]string{"ü=value"}, "bash-static"},
	} {
		if got := choose(test.environ); got != test.want {
			t.Errorf("choose(%q) = %s, want %s", test.environ, got, test.want)
		}
	}
}
