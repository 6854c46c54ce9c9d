package cli

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/publisher/registrytest"
)

// TestKilled kills pushes at random moments. The registry believes everything it is told, as not
// all of them look whether a manifest's blobs are there; so it is up to the push that every tag
// points at a complete image, at any moment.
func TestKilled(t *testing.T) {
	for name, c := range map[string]struct {
		referrers bool
		rounds    int
	}{
		"referrers":    {referrers: true, rounds: 50},
		"fallback tag": {rounds: 15},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			k := &killer{random: rand.New(rand.NewPCG(seed, 2)), after: -1}
			s := registrytest.New(t, registrytest.Options{Referrers: c.referrers, Fault: k.request})
			testKilled(t, s, k, c.rounds)
		})
	}
}

// killer kills a process when the registry gets a certain request, shortly after it, or never.
type killer struct {
	mu     sync.Mutex
	random *rand.Rand
	cmd    *exec.Cmd
	after  int // requests to come; negative is never
	seen   int
}

func (k *killer) request(http.ResponseWriter, *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen++
	if k.after == 0 {
		// Before the registry has acted, while it acts or after that.
		late := time.Duration(k.random.IntN(3)) * time.Millisecond
		cmd := k.cmd
		if late == 0 {
			_ = cmd.Process.Kill()
		} else {
			time.AfterFunc(late, func() { _ = cmd.Process.Kill() })
		}
	}
	k.after--
	return false
}

// start starts a process, to be killed after a random one of so many requests.
func (k *killer) start(t *testing.T, cmd *exec.Cmd, requests int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cmd, k.after = cmd, k.random.IntN(requests)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func testKilled(t *testing.T, s *registrytest.Server, k *killer, rounds int) {
	push := func(layer string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], append(family(t, layer), "--registry", s.Host+"/team", "--tag", "v1", "--tag", "v2")...)
		cmd.Env = append(os.Environ(), programVariable+"=1")
		return cmd
	}
	for _, layer := range []string{"first", "second"} { // the second one's requests are counted
		k.seen = 0
		if out, err := push(layer).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	requests := k.seen
	before := s.CheckTags(t)
	s.Requests()

	halfway, unchanged, finished := 0, 0, 0
	for round := range rounds {
		cmd := push(fmt.Sprint(round))
		k.start(t, cmd, requests)
		_ = cmd.Wait()
		k.mu.Lock()
		k.after = -1
		k.mu.Unlock()

		writes := s.Writes()
		tags := s.CheckTags(t)
		if len(tags) < len(before) {
			t.Errorf("tags are %v, were %v", tags, before)
		}
		moved := 0
		for _, tag := range []string{"team/node:v1", "team/node:v2"} {
			if tags[tag] != before[tag] {
				moved++
			}
		}
		switch {
		case moved == 2:
			finished++
		case moved == 1 || len(writes) > 0:
			halfway++
		default:
			unchanged++
		}
		before = tags
		s.Requests()
		if t.Failed() {
			t.Fatalf("round %d, after the writes %q", round, writes)
		}
	}
	t.Logf("%d rounds, up to %d requests: killed before the first write %d, in between %d, after the last tag %d", rounds, requests, unchanged, halfway, finished)
	if halfway < rounds/10 {
		t.Errorf("only %d of %d kills came while something was written", halfway, rounds)
	}
	if out, err := push("last").CombinedOutput(); err != nil {
		t.Errorf("a push after the kills: %v\n%s", err, out)
	}
	s.CheckTags(t)
}
