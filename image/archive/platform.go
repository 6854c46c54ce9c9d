package archive

import (
	"fmt"

	"github.com/containerd/platforms"
	"golang.org/x/sys/cpu"
)

// platform returns the platform to choose images for, and what fits it.
func (o Options) platform() (platforms.Platform, platforms.MatchComparer) {
	if o.AllPlatforms {
		return platforms.DefaultSpec(), platforms.All
	}
	if o.Platform != nil {
		p := platformOf(o.Platform)
		return p, platforms.Only(p)
	}
	return platforms.DefaultSpec(), machine(amd64Level())
}

// machine matches what the node's containerd matches, and after that images for a higher level of
// amd64 that the CPU has. Such images run, though containerd does not find them in an index, since
// it does not know levels:
// https://github.com/containerd/platforms/blob/v1.0.0-rc.5/cpuinfo.go
func machine(level int) platforms.MatchComparer {
	p := platforms.DefaultSpec()
	first := platforms.Only(p)
	var higher []platforms.Platform
	for ; level > 1; level-- {
		p.Variant = fmt.Sprint("v", level)
		higher = append(higher, p)
	}
	return orElse{first, platforms.Ordered(higher...)}
}

// orElse prefers what the first matches to what the second matches.
type orElse struct{ first, second platforms.MatchComparer }

func (o orElse) Match(p platforms.Platform) bool { return o.first.Match(p) || o.second.Match(p) }

func (o orElse) Less(a, b platforms.Platform) bool {
	switch fa, fb := o.first.Match(a), o.first.Match(b); {
	case fa && fb:
		return o.first.Less(a, b)
	case fa || fb:
		return fa
	}
	return o.second.Less(a, b)
}

// amd64Level returns the CPU's level of the x86-64 psABI, 0 for other architectures. Of v3's
// features, x/sys does not know F16C, LZCNT and MOVBE, which no CPU with the others lacks.
// https://gitlab.com/x86-psABIs/x86-64-ABI
func amd64Level() int {
	x := &cpu.X86
	switch {
	case !x.HasSSE2:
		return 0
	case !(x.HasCX16 && x.HasPOPCNT && x.HasSSE3 && x.HasSSSE3 && x.HasSSE41 && x.HasSSE42):
		return 1
	case !(x.HasOSXSAVE && x.HasAVX && x.HasAVX2 && x.HasBMI1 && x.HasBMI2 && x.HasFMA):
		return 2
	case !(x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL):
		return 3
	}
	return 4
}
