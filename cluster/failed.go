package cluster

// Failed tells `runner health` why there is no cluster, in place of a runner that could not.
func Failed(reason string) { writePhase("failed: " + reason) }
