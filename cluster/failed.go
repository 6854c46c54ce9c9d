package cluster

// Failed makes `runner health` say why there is no cluster, when the runner itself could not.
func Failed(reason string) { writePhase("failed: " + reason) }
