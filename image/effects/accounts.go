package effects

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
)

const (
	passwdPath  = "etc/passwd"
	groupPath   = "etc/group"
	shadowPath  = "etc/shadow"
	gshadowPath = "etc/gshadow"
	shadowGID   = 42 // fixed by Debian's base-passwd: https://www.debian.org/doc/debian-policy/ch-opersys.html#uid-and-gid-classes

	// System accounts without a fixed number get one from here downwards, as with systemd-sysusers:
	// https://www.freedesktop.org/software/systemd/man/latest/sysusers.d.html
	lastSystemID = 999
)

type account struct {
	name        string
	uid, gid    int
	gecos, home string
	shell       string
}

type group struct {
	name    string
	gid     int
	members []string
}

type accounts struct {
	read, changed bool
	users         []account
	groups        []group
}

func (a *accounts) user(name string) *account {
	for i := range a.users {
		if a.users[i].name == name {
			return &a.users[i]
		}
	}
	return nil
}

func (a *accounts) group(name string) *group {
	for i := range a.groups {
		if a.groups[i].name == name {
			return &a.groups[i]
		}
	}
	return nil
}

func (a *accounts) freeID() (int, error) {
	for id := lastSystemID; id >= 100; id-- {
		if !slices.ContainsFunc(a.users, func(u account) bool { return u.uid == id }) &&
			!slices.ContainsFunc(a.groups, func(g group) bool { return g.gid == id }) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no system account number is free")
}

func (a *accounts) addGroup(name string, gid int) error {
	if have := a.group(name); have != nil {
		if gid >= 0 && have.gid != gid {
			return fmt.Errorf("group %s has number %d already, not %d", name, have.gid, gid)
		}
		return nil
	}
	if gid < 0 {
		free, err := a.freeID()
		if err != nil {
			return err
		}
		gid = free
	}
	for _, g := range a.groups {
		if g.gid == gid {
			return fmt.Errorf("group number %d belongs to %s, group %s cannot have it", gid, g.name, name)
		}
	}
	a.changed = true
	a.groups = append(a.groups, group{name: name, gid: gid})
	return nil
}

func (a *accounts) addUser(u account) error {
	if have := a.user(u.name); have != nil {
		if have.uid != u.uid && u.uid >= 0 {
			return fmt.Errorf("user %s has number %d already, not %d", u.name, have.uid, u.uid)
		}
		return nil
	}
	for _, have := range a.users {
		if have.uid == u.uid {
			return fmt.Errorf("user number %d belongs to %s, user %s cannot have it", u.uid, have.name, u.name)
		}
	}
	if u.home == "" {
		u.home = "/nonexistent"
	}
	if u.shell == "" {
		u.shell = "/usr/sbin/nologin"
	}
	a.changed = true
	a.users = append(a.users, u)
	return nil
}

func (a *accounts) addMember(user, to string) error {
	g := a.group(to)
	if g == nil {
		return fmt.Errorf("group %s, which user %s is to join, does not exist", to, user)
	}
	if !slices.Contains(g.members, user) {
		a.changed = true
		g.members = append(g.members, user)
	}
	return nil
}

// readAccounts reads the accounts once, however many declarations there are.
func (s *System) readAccounts(declare.Named) error {
	if s.accounts.read {
		return nil
	}
	s.accounts.read = true
	passwd, _, err := s.read(passwdPath)
	if err != nil {
		return err
	}
	for _, f := range records(passwd) {
		if len(f) != 7 {
			return fmt.Errorf("/%s: %q is no account", passwdPath, strings.Join(f, ":"))
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil {
			return fmt.Errorf("/%s: %q is no account", passwdPath, strings.Join(f, ":"))
		}
		s.accounts.users = append(s.accounts.users, account{f[0], uid, gid, f[4], f[5], f[6]})
	}
	groups, _, err := s.read(groupPath)
	if err != nil {
		return err
	}
	for _, f := range records(groups) {
		if len(f) != 4 {
			return fmt.Errorf("/%s: %q is no group", groupPath, strings.Join(f, ":"))
		}
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			return fmt.Errorf("/%s: %q is no group", groupPath, strings.Join(f, ":"))
		}
		g := group{name: f[0], gid: gid}
		if f[3] != "" {
			g.members = strings.Split(f[3], ",")
		}
		s.accounts.groups = append(s.accounts.groups, g)
	}
	return nil
}

func records(text string) [][]string {
	var all [][]string
	for _, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) != "" {
			all = append(all, strings.Split(line, ":"))
		}
	}
	return all
}

func (s *System) groups(n declare.Named) error {
	for _, g := range n.Groups {
		if err := s.accounts.addGroup(g.Name, g.GID); err != nil {
			return err
		}
		for _, m := range g.Members {
			if err := s.accounts.addMember(m, g.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *System) users(n declare.Named) error {
	for _, u := range n.Users {
		if err := s.accounts.addUser(account{u.Name, u.UID, u.GID, u.Gecos, u.Home, u.Shell}); err != nil {
			return err
		}
	}
	return nil
}

// sysusers applies the named sysusers.d files of this layer's packages. Accounts without a number
// get one in the order of declaration.
func (s *System) sysusers(n declare.Named) error {
	for _, name := range n.Sysusers {
		p := "usr/lib/sysusers.d/" + name
		text, ok, err := s.read(p)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("sysusers: no package of this layer brings /%s", p)
		}
		for i, line := range strings.Split(text, "\n") {
			if err := s.sysusersLine(line); err != nil {
				return fmt.Errorf("/%s, line %d: %w", p, i+1, err)
			}
		}
	}
	return nil
}

func (s *System) sysusersLine(line string) error {
	f, err := fieldsQuoted(line)
	if err != nil || len(f) == 0 {
		return err
	}
	for len(f) < 6 {
		f = append(f, "-")
	}
	for i := range f {
		if f[i] == "-" {
			f[i] = ""
		}
		if strings.Contains(f[i], "%") {
			return fmt.Errorf("specifiers such as in %q are not supported", f[i])
		}
	}
	kind, name, id := f[0], f[1], f[2]
	switch kind {
	case "g":
		gid := -1
		if id != "" {
			if gid, err = strconv.Atoi(id); err != nil {
				return fmt.Errorf("group number %q", id)
			}
		}
		return s.accounts.addGroup(name, gid)
	case "u", "u!":
		if s.accounts.user(name) != nil {
			return nil
		}
		uidText, groupText, hasGroup := strings.Cut(id, ":")
		uid := -1
		if uidText != "" {
			if uid, err = strconv.Atoi(uidText); err != nil {
				return fmt.Errorf("user number %q", uidText)
			}
		}
		if uid < 0 {
			if g := s.accounts.group(name); g != nil {
				uid = g.gid
			} else if uid, err = s.accounts.freeID(); err != nil {
				return err
			}
		}
		gid := uid
		if hasGroup {
			if g := s.accounts.group(groupText); g != nil {
				gid = g.gid
			} else if gid, err = strconv.Atoi(groupText); err != nil {
				return fmt.Errorf("group %q does not exist", groupText)
			}
		} else if g := s.accounts.group(name); g != nil {
			gid = g.gid
		} else if err := s.accounts.addGroup(name, gid); err != nil {
			return err
		}
		home := f[4]
		if home == "" {
			home = "/"
		}
		return s.accounts.addUser(account{name, uid, gid, f[3], home, f[5]})
	case "m":
		return s.accounts.addMember(name, id)
	case "r":
		return nil
	}
	return fmt.Errorf("unknown kind of line %q", kind)
}

// fieldsQuoted splits a line at blanks, with double quotes, comments left out.
func fieldsQuoted(line string) ([]string, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil, nil
	}
	var fields []string
	for line != "" {
		if line[0] == '"' {
			end := strings.IndexByte(line[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("a quote is not closed")
			}
			fields = append(fields, line[1:end+1])
			line = strings.TrimSpace(line[end+2:])
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		fields = append(fields, line[:end])
		line = strings.TrimSpace(line[end:])
	}
	return fields, nil
}

// writeAccounts writes the account files, all accounts locked.
func (s *System) writeAccounts(all []declare.Named) error {
	_, shadow := s.Shared[shadowPath]
	source := "accounts"
	for _, n := range all {
		if n.Shadow {
			shadow, source = true, n.Source
			s.accounts.changed = true
		}
	}
	if !s.accounts.changed {
		return nil
	}
	mark := "*"
	if shadow {
		mark = "x"
	}
	var passwd, groups, shadows, gshadows strings.Builder
	for _, u := range s.accounts.users {
		fmt.Fprintf(&passwd, "%s:%s:%d:%d:%s:%s:%s\n", u.name, mark, u.uid, u.gid, u.gecos, u.home, u.shell)
		// No date of the last change, which would be the build's: without one, passwords do not
		// age, see shadow(5).
		fmt.Fprintf(&shadows, "%s:*::0:99999:7:::\n", u.name)
	}
	for _, g := range s.accounts.groups {
		members := strings.Join(g.members, ",")
		fmt.Fprintf(&groups, "%s:%s:%d:%s\n", g.name, mark, g.gid, members)
		fmt.Fprintf(&gshadows, "%s:*::%s\n", g.name, members)
	}
	if err := s.share(passwdPath, passwd.String(), 0o644, 0, source); err != nil {
		return err
	}
	if err := s.share(groupPath, groups.String(), 0o644, 0, source); err != nil {
		return err
	}
	if !shadow {
		return nil
	}
	if err := s.share(shadowPath, shadows.String(), 0o640, shadowGID, source); err != nil {
		return err
	}
	return s.share(gshadowPath, gshadows.String(), 0o640, shadowGID, source)
}
