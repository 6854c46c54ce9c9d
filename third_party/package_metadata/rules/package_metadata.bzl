"""The one rule of the supply-chain ruleset that Gazelle's generated build files load.

The ruleset comes through neither of our channels. Gazelle writes a `package_metadata` target into each module's root
package and needs nothing from it but its name.
"""

def _package_metadata_impl(_ctx):
    return [DefaultInfo()]

_package_metadata = rule(
    implementation = _package_metadata_impl,
    doc = "Carries a module's package URL.",
    attrs = {
        "purl": attr.string(doc = "The package URL."),
    },
)

def package_metadata(name, purl, visibility = None):
    """Carries a module's package URL.

    Args:
      name: name of the target.
      purl: package URL of the module, see the purl specification.
      visibility: visibility of the target.
    """
    _package_metadata(
        name = name,
        purl = purl,
        visibility = visibility,
        # It is the default of its own repository: it must not describe itself.
        applicable_licenses = [],
    )
