// Written by scripts/lock; do not edit.
// upstream: github.com/CycloneDX/sbom-utility@v0.16.0 2024-05-09T23:04:11Z
module universe.invalid/sbom_utility

go 1.20

require (
	github.com/CycloneDX/sbom-utility v0.16.0
	github.com/davecgh/go-spew v1.1.1
	github.com/fatih/color v1.15.0
	github.com/google/uuid v1.6.0
	github.com/hokaccha/go-prettyjson v0.0.0-20211117102719-0474bc63780f
	github.com/iancoleman/orderedmap v0.3.0
	github.com/inconshreveable/mousetrap v1.1.0
	github.com/jwangsadinata/go-multimap v0.0.0-20190620162914-c29f3d7f33b6
	github.com/kr/text v0.2.0
	github.com/mattn/go-colorable v0.1.13
	github.com/mattn/go-isatty v0.0.20
	github.com/mrutkows/go-jsondiff v0.2.0
	github.com/pmezard/go-difflib v1.0.0
	github.com/sergi/go-diff v1.3.1
	github.com/spf13/cobra v1.7.0
	github.com/spf13/pflag v1.0.5
	github.com/stretchr/testify v1.8.1
	github.com/xeipuuv/gojsonpointer v0.0.0-20190905194746-02993c407bfb
	github.com/xeipuuv/gojsonreference v0.0.0-20180127040603-bd5ef7bd5415
	github.com/xeipuuv/gojsonschema v1.2.0
	golang.org/x/exp v0.0.0-20231006140011-7918f672742d
	golang.org/x/sys v0.13.0
	gopkg.in/check.v1 v1.0.0-20201130134442-10cb98267c6c
	gopkg.in/yaml.v3 v3.0.1
)
