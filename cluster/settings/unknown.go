package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/nearest"
)

// lookup returns a function that returns the values of an environment's variables.
func lookup(environ []string) func(string) string {
	values := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

func checkNames(environ []string) error {
	var errs []error
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		errs = append(errs, checkName(name))
	}
	return errors.Join(errs...)
}

// IsSetting reports whether a variable is one of the settings.
func IsSetting(name string) bool { return slices.Contains(Names(), name) }

// Names returns the names of all settings.
func Names() []string {
	var names []string
	for _, v := range variables {
		names = append(names, v.name)
	}
	return names
}

// Unknown is the error for a variable that is no setting.
func Unknown(name string) error {
	if setting := like(name); setting != "" {
		return fmt.Errorf("environment variable %s is not a setting of the cluster: did you mean %s?", name, setting)
	}
	return fmt.Errorf("environment variable %s is not a setting of the cluster: there are %s", name, strings.Join(Names(), ", "))
}

// checkName refuses a variable that looks like a mistaken setting. The rest of the environment is
// ignored: the image's and Docker's own variables, proxies, or all variables of a job in CI, which
// some systems hand to its service containers.
//
// Two kinds of names look like settings. A typing error is one letter away from a setting, two if
// that is long. The others are made of nothing but the words that settings of Kubernetes clusters
// have, one of them a word that little else has: FEATURE_GATES and POD_CIDR, but neither POD_NAME
// nor NODE_VERSION.
func checkName(name string) error {
	if IsSetting(name) {
		return nil
	}
	// The service links of a Kubernetes around us: KUBERNETES_PORT_443_TCP and its like.
	if strings.HasPrefix(name, "KUBERNETES_") {
		return nil
	}
	if like(name) != "" {
		return Unknown(name)
	}
	specific := false
	for word := range strings.SplitSeq(plain(name), "_") {
		is := func(words []string) bool {
			return slices.Contains(words, word) || slices.Contains(words, strings.TrimSuffix(word, "S"))
		}
		if is(specificWords) {
			specific = true
		} else if !is(generalWords) {
			return nil
		}
	}
	if specific {
		return Unknown(name)
	}
	return nil
}

// Words of settings, in the singular: those that mean Kubernetes by themselves, and those that need
// one of the others for it.
var (
	specificWords = []string{
		"APISERVER", "CIDR", "CNI", "ETCD", "FEATURE", "GATE", "K8S", "KUBE", "KUBEADM", "KUBELET", "PLANE", "POD", "RUNTIME",
		"SCHEDULER", "SUBNET", "WORKER",
	}
	generalWords = []string{
		"API", "ARG", "CLUSTER", "CONFIG", "CONTROL", "CONTROLLER", "COUNT", "DEFAULT", "DISABLE", "DNS", "DOMAIN", "ENABLE", "EXTRA",
		"FAILURE", "FLAG", "IMAGE", "IP", "MANAGER", "MODE", "NETWORK", "NODE", "NUM", "ON", "PLUGIN", "PORT", "PROXY", "SAN", "SERVER",
		"SERVICE", "SYNC", "TIMEOUT", "VERSION",
	}
)

// plain returns a name in the spelling of settings.
func plain(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// like returns the setting that a name is a typing error of, or "".
func like(name string) string {
	name = plain(name)
	found, least := "", 3
	for _, setting := range Names() {
		allowed := 1
		if len(setting) >= 10 {
			allowed = 2
		}
		d := nearest.Distance(name, setting)
		if strings.ReplaceAll(name, "_", "") == strings.ReplaceAll(setting, "_", "") {
			d = 0
		}
		// APP_PORT is no error for API_PORT: the shorter a word, the more others are near.
		if d < least && (d == 0 || d <= allowed && hasShortWords(name, setting)) {
			found, least = setting, d
		}
	}
	return found
}

// hasShortWords reports whether a name has the words of a setting that are of three letters or
// fewer, perhaps as plurals.
func hasShortWords(name, setting string) bool {
	words := strings.Split(name, "_")
	for word := range strings.SplitSeq(setting, "_") {
		if len(word) <= 3 && !slices.Contains(words, word) && !slices.Contains(words, word+"S") {
			return false
		}
	}
	return true
}
