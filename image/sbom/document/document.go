// Package document writes an image's inventory as an SPDX 2.3 document
// (https://spdx.github.io/spdx-spec/v2.3/).
//
// The document describes the image. By relationships of the kind CONTAINS the image has its layers,
// its operating system, its Debian packages, its programs and the images inside it, which have
// theirs; a Debian package has its Go programs, and a Go program has the modules that it is linked
// from, the standard library among them. A Debian package that was built from further source
// packages is GENERATED_FROM them: Debian's Go programs are, and name no modules.
//
// A package of one version, a program, a module or a layer that several images share is in the
// document once. The document depends on the image alone: everything is sorted, its time is the
// image's, its namespace a digest.
package document

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	purl "github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/dind-cluster/dind-cluster/image/sbom/contents"
	"github.com/dind-cluster/dind-cluster/image/sbom/copyright"
)

// Options has what the images do not say.
type Options struct {
	// Vendor made the image, and those of its Debian packages that are not the distribution's.
	Vendor string
	// Archive are the distribution's packages, by name, version and architecture, separated by
	// spaces.
	Archive map[string]ArchiveFile
}

// ArchiveFile is a package's file in the distribution's archive.
type ArchiveFile struct {
	// Name is the file's, without directories.
	Name string
	// SHA256 is its hexadecimal digest.
	SHA256 string
}

const (
	noAssertion = "NOASSERTION"
	// spaceRoot begins the namespaces of all documents. It need not exist as a page, but has to be
	// ours:
	// https://spdx.github.io/spdx-spec/v2.3/document-creation-information/#65-spdx-document-namespace-field
	spaceRoot = "https://github.com/dind-cluster/dind-cluster/spdx/"
	creator   = "github.com/dind-cluster/dind-cluster/tools/sbom"
)

// New makes the document of an image.
func New(img *contents.Image, o Options) (*spdx.Document, error) {
	b := &builder{options: o, elements: map[string]*spdx.Package{}, relations: map[relation]bool{}}
	root, err := b.image(img)
	if err != nil {
		return nil, err
	}
	b.relate("DOCUMENT", "DESCRIBES", root)
	doc := &spdx.Document{
		SPDXVersion:    spdx.Version,
		DataLicense:    spdx.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   img.Name,
		CreationInfo: &spdx.CreationInfo{
			Created:  img.Created.UTC().Format(time.RFC3339),
			Creators: []spdx.Creator{{CreatorType: "Tool", Creator: creator}},
		},
		Packages:      b.packages(root),
		Relationships: b.relationships(),
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		return nil, err
	}
	// Different documents have different namespaces, and the same document has the same one
	// everywhere.
	var content bytes.Buffer
	if err := Write(&content, doc); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content.Bytes())
	doc.DocumentNamespace = spaceRoot + url.PathEscape(img.Name) + "/" + strings.Replace(img.Digest.String(), ":", "-", 1) + "/" + hex.EncodeToString(sum[:16])
	return doc, nil
}

// Write writes a document as JSON.
func Write(w io.Writer, doc *spdx.Document) error {
	return spdxjson.Write(doc, w, spdxjson.Indent(" "), spdxjson.EscapeHTML(false))
}

type relation struct {
	from common.ElementID
	kind string
	to   common.ElementID
}

type builder struct {
	options   Options
	elements  map[string]*spdx.Package // by kind and identity
	relations map[relation]bool
}

// nameInID is how much of its name an identifier shows, for people; what follows makes it unique.
const nameInID = 48

var badInID = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// add adds an element unless it is there already, and returns its identifier. Identity tells it
// from all others of its kind.
func (b *builder) add(kind, identity string, describe func() *spdx.Package) common.ElementID {
	key := kind + " " + identity
	if e := b.elements[key]; e != nil {
		return e.PackageSPDXIdentifier
	}
	p := describe()
	sum := sha256.Sum256([]byte(key))
	name := strings.Trim(badInID.ReplaceAllString(p.PackageName, "-"), "-")
	name = name[:min(len(name), nameInID)]
	p.PackageSPDXIdentifier = common.ElementID(kind + "-" + name + "-" + hex.EncodeToString(sum[:8]))
	if p.PackageDownloadLocation == "" {
		p.PackageDownloadLocation = noAssertion
	}
	if p.PackageSupplier == nil {
		p.PackageSupplier = &common.Supplier{Supplier: noAssertion}
	}
	for _, field := range []*string{&p.PackageLicenseConcluded, &p.PackageLicenseDeclared, &p.PackageCopyrightText} {
		if *field == "" {
			*field = noAssertion
		}
	}
	b.elements[key] = p
	return p.PackageSPDXIdentifier
}

func (b *builder) relate(from common.ElementID, kind string, to common.ElementID) {
	b.relations[relation{from, kind, to}] = true
}

func (b *builder) contains(from, to common.ElementID) { b.relate(from, "CONTAINS", to) }

// packages returns the elements, the described one first.
func (b *builder) packages(root common.ElementID) []*spdx.Package {
	all := slices.Collect(maps.Values(b.elements))
	slices.SortFunc(all, func(x, y *spdx.Package) int {
		if (x.PackageSPDXIdentifier == root) != (y.PackageSPDXIdentifier == root) {
			if x.PackageSPDXIdentifier == root {
				return -1
			}
			return 1
		}
		return strings.Compare(string(x.PackageSPDXIdentifier), string(y.PackageSPDXIdentifier))
	})
	return all
}

func (b *builder) relationships() []*spdx.Relationship {
	all := slices.Collect(maps.Keys(b.relations))
	slices.SortFunc(all, func(x, y relation) int {
		return strings.Compare(string(x.from)+" "+x.kind+" "+string(x.to), string(y.from)+" "+y.kind+" "+string(y.to))
	})
	out := make([]*spdx.Relationship, len(all))
	for i, r := range all {
		out[i] = &spdx.Relationship{
			RefA:         common.MakeDocElementID("", string(r.from)),
			RefB:         common.MakeDocElementID("", string(r.to)),
			Relationship: r.kind,
		}
	}
	return out
}

func (b *builder) image(img *contents.Image) (common.ElementID, error) {
	repository, tag := splitName(img.Name)
	id := b.add("image", img.Digest.String()+" "+img.Name, func() *spdx.Package {
		p := &spdx.Package{
			PackageName:               repository,
			PackageVersion:            tag,
			PackageFileName:           img.Path,
			PrimaryPackagePurpose:     "CONTAINER",
			PackageChecksums:          checksum(img.Digest.Hex),
			PackageExternalReferences: externalRef(imageURL(img, repository, tag)),
			PackageComment:            "The check sum is that of the image's manifest.",
		}
		if img.Path == "" && b.options.Vendor != "" {
			p.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: b.options.Vendor}
		}
		if img.IsID {
			p.PackageComment = "The check sum is the image's ID, that of its config: an archive of docker save has no manifest."
		}
		return p
	})
	for _, l := range img.Layers {
		b.contains(id, b.add("layer", l.Digest.String(), func() *spdx.Package {
			return &spdx.Package{
				PackageName:           l.Digest.String(),
				PrimaryPackagePurpose: "ARCHIVE",
				PackageChecksums:      checksum(l.Digest.Hex),
				PackageSourceInfo:     l.CreatedBy,
			}
		}))
	}
	if os := img.OS; os != nil {
		b.contains(id, b.add("os", os.ID+" "+os.VersionID+" "+os.Name, func() *spdx.Package {
			return &spdx.Package{
				PackageName: os.ID, PackageVersion: os.VersionID, PackageSummary: os.Name, PrimaryPackagePurpose: "OPERATING_SYSTEM",
			}
		}))
	}
	packages := map[*contents.Package]common.ElementID{}
	for _, p := range img.Packages {
		packages[p] = b.debian(p, img.OS)
		b.contains(id, packages[p])
	}
	for _, p := range img.Programs {
		program, err := b.program(p)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Path, err)
		}
		if p.Package != nil {
			b.contains(packages[p.Package], program)
		} else {
			b.contains(id, program)
		}
	}
	for _, nested := range img.Images {
		inner, err := b.image(nested)
		if err != nil {
			return "", fmt.Errorf("image %s in %s: %w", nested.Name, nested.Path, err)
		}
		b.contains(id, inner)
	}
	return id, nil
}

// splitName splits an image's name into repository and tag.
func splitName(name string) (repository, tag string) {
	repository = name
	ref, _ := reference.Parse(name)
	if named, ok := ref.(reference.Named); ok {
		repository = named.Name()
	}
	if tagged, ok := ref.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return repository, tag
}

func imageURL(img *contents.Image, repository, tag string) string {
	host, name := path.Split(repository)
	q := map[string]string{"arch": img.Architecture, "tag": tag}
	kind := purl.TypeOCI
	if img.IsID {
		// Only for this type the version may be an image's ID:
		// https://github.com/package-url/purl-spec/blob/main/types-doc/docker-definition.md
		kind = purl.TypeDocker
		q["repository_url"] = strings.TrimSuffix(host, "/")
	} else if host != "" {
		q["repository_url"] = repository
	}
	return packageURL(kind, "", name, img.Digest.String(), q)
}

func (b *builder) debian(p *contents.Package, os *contents.OS) common.ElementID {
	vendor, qualifiers := "debian", map[string]string{"arch": p.Architecture}
	if os != nil {
		vendor, qualifiers["distro"] = os.ID, os.Codename
	}
	file, isDistributions := b.options.Archive[p.Name+" "+p.Version+" "+p.Architecture]
	if !isDistributions && b.options.Vendor != "" {
		vendor = b.options.Vendor
	}
	u := packageURL(purl.TypeDebian, vendor, p.Name, p.Version, qualifiers)
	id := b.add("deb", u, func() *spdx.Package {
		out := &spdx.Package{
			PackageName:               p.Name,
			PackageVersion:            p.Version,
			PackageSupplier:           supplier(p.Maintainer),
			PackageSummary:            p.Summary,
			PackageSourceInfo:         fmt.Sprintf("built package from: %s %s", p.Source.Name, p.Source.Version),
			PackageExternalReferences: externalRef(u),
		}
		if home, err := url.Parse(p.Homepage); err == nil && home.Host != "" && (home.Scheme == "http" || home.Scheme == "https") {
			out.PackageHomePage = home.String()
		}
		if isDistributions {
			out.PackageFileName, out.PackageChecksums = file.Name, checksum(file.SHA256)
		}
		if l := copyright.Parse(p.Copyright); l != nil && len(l.Names) > 0 {
			out.PackageLicenseDeclared = l.Expression
			out.PackageLicenseComments = "/usr/share/doc/" + p.Name + "/copyright names: " + strings.Join(l.Names, "; ")
		}
		return out
	})
	for _, s := range p.BuiltUsing {
		q := map[string]string{"arch": "source"}
		if os != nil {
			q["distro"] = os.Codename
		}
		// A source package is always the distribution's.
		name := "debian"
		if os != nil {
			name = os.ID
		}
		u := packageURL(purl.TypeDebian, name, s.Name, s.Version, q)
		b.relate(id, "GENERATED_FROM", b.add("source", u, func() *spdx.Package {
			return &spdx.Package{
				PackageName: s.Name, PackageVersion: s.Version, PrimaryPackagePurpose: "SOURCE", PackageExternalReferences: externalRef(u),
			}
		}))
	}
	return id
}

func (b *builder) program(p *contents.Program) (common.ElementID, error) {
	id := b.add("program", p.Path+" "+p.SHA256, func() *spdx.Package {
		out := &spdx.Package{
			PackageName:           path.Base(p.Path),
			PackageFileName:       p.Path,
			PackageChecksums:      checksum(p.SHA256),
			PrimaryPackagePurpose: "APPLICATION",
		}
		if p.Go != nil {
			out.PackageVersion = releaseOf(p.Go.Main.Version)
			out.PackageSourceInfo = "built from the Go package " + p.Go.Path + " with " + p.Go.GoVersion
		}
		return out
	})
	if p.Go == nil {
		return id, nil
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(p.Go.GoVersion, "go"), " ")
	b.contains(id, b.module("stdlib", version))
	if p.Go.Main.Path != "" {
		b.contains(id, b.module(p.Go.Main.Path, releaseOf(p.Go.Main.Version)))
	}
	for _, m := range p.Go.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if strings.HasPrefix(m.Path, ".") || strings.HasPrefix(m.Path, "/") {
			return "", fmt.Errorf("module %s is a directory, which says nothing about its content: require a version of the module", m.Path)
		}
		b.contains(id, b.module(m.Path, releaseOf(m.Version)))
	}
	return id, nil
}

// releaseOf returns a module's version, or "" if the go command did not know it.
func releaseOf(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}

func (b *builder) module(modulePath, version string) common.ElementID {
	namespace, name := path.Split(modulePath)
	u := packageURL(purl.TypeGolang, strings.TrimSuffix(namespace, "/"), name, version, nil)
	return b.add("module", modulePath+" "+version, func() *spdx.Package {
		return &spdx.Package{
			PackageName: modulePath, PackageVersion: version, PrimaryPackagePurpose: "LIBRARY", PackageExternalReferences: externalRef(u),
		}
	})
}

func checksum(hex string) []common.Checksum {
	return []common.Checksum{{Algorithm: common.SHA256, Value: hex}}
}

func externalRef(url string) []*spdx.PackageExternalReference {
	return []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: url}}
}

// packageURL returns a package URL in its canonical form, in which modules' paths have no capitals.
func packageURL(kind, namespace, name, version string, qualifiers map[string]string) string {
	u := purl.NewPackageURL(kind, namespace, name, version, purl.QualifiersFromMap(qualifiers), "")
	// Its only errors are about types and keys, which are constants here, and about a missing name.
	_ = u.Normalize()
	return u.ToString()
}

var (
	address = regexp.MustCompile(`^(.*?)\s*<([^<>]+)>$`)
	// team tells a group's name or address from a person's.
	team = regexp.MustCompile(`(?i)\b(team|group|maintainers|developers|authors|project)\b|@(lists|tracker|alioth-lists|packages)\.`)
)

// supplier makes a supplier of a maintainer: A Person <someone@example.org> is Person: A Person
// (someone@example.org).
func supplier(maintainer string) *common.Supplier {
	if maintainer == "" {
		return nil
	}
	kind := "Person"
	if team.MatchString(maintainer) {
		kind = "Organization"
	}
	if m := address.FindStringSubmatch(maintainer); m != nil && m[1] != "" {
		maintainer = m[1] + " (" + m[2] + ")"
	}
	return &common.Supplier{SupplierType: kind, Supplier: maintainer}
}
