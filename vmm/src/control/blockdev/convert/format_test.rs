use super::super::json;
use super::*;
use block::NodeSpec;

fn format(text: &str) -> Result<FormatSpec, String> {
    match json::node(text).map_err(|error| error.desc)? {
        NodeSpec {
            driver: DriverSpec::Format(format),
            ..
        } => Ok(format),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn backing_files_are_named_defined_or_none() {
    let backing = |text: &str| {
        let text = format!(r#"{{"driver": "qed", "file": "f"{text}}}"#);
        format(&text).unwrap().backing
    };
    assert_eq!(backing(""), None);
    assert_eq!(backing(r#", "backing": null"#), Some(BackingSpec::Nothing));
    assert_eq!(backing(r#", "backing": """#), Some(BackingSpec::Nothing));
    let name = ChildSpec::Reference("b".into());
    assert_eq!(
        backing(r#", "backing": "b""#),
        Some(BackingSpec::Node(Box::new(name)))
    );
    let inline = backing(r#", "backing": {"driver": "null-co"}"#).unwrap();
    let BackingSpec::Node(child) = inline else {
        panic!("{inline:?}");
    };
    assert!(matches!(*child, ChildSpec::Inline(_)));
}

#[test]
fn all_options_of_qcow2_arrive() {
    let spec = format(
        r#"{"driver": "qcow2", "file": "f", "data-file": "d", "lazy-refcounts": true,
            "pass-discard-request": false, "pass-discard-snapshot": true,
            "pass-discard-other": true, "discard-no-unref": false, "cache-size": 1,
            "l2-cache-size": 2, "l2-cache-entry-size": 3, "refcount-cache-size": 4,
            "cache-clean-interval": 5, "overlap-check": "constant"}"#,
    )
    .unwrap();
    assert_eq!(
        spec.qcow2,
        Qcow2Options {
            lazy_refcounts: Some(true),
            pass_discard_request: Some(false),
            pass_discard_snapshot: Some(true),
            pass_discard_other: Some(true),
            discard_no_unref: Some(false),
            overlap_check: Some(OverlapCheck::Constant),
            overlap_flags: OverlapFlags::default(),
            cache_size: Some(1),
            l2_cache_size: Some(2),
            l2_cache_entry_size: Some(3),
            refcount_cache_size: Some(4),
            cache_clean_interval: Some(5),
        }
    );
    let data_file = ChildSpec::Reference("d".into());
    assert_eq!(spec.data_file, Some(Box::new(data_file)));
}

#[test]
fn overlap_checks_are_chosen_kind_by_kind() {
    let spec = format(
        r#"{"driver": "qcow2", "file": "f", "overlap-check.template": "all",
            "overlap-check.inactive-l2": "off"}"#,
    )
    .unwrap();
    assert_eq!(spec.qcow2.overlap_check, Some(OverlapCheck::All));
    assert_eq!(spec.qcow2.overlap_flags.inactive_l2, Some(false));
    assert_eq!(spec.qcow2.overlap_flags.active_l2, None);
}

#[test]
fn what_is_not_there_is_refused() {
    let refused = |options: &str| {
        let text = format!(r#"{{"driver": "qcow2", "file": "f", {options}}}"#);
        format(&text).unwrap_err()
    };
    assert_eq!(
        refused(r#""encrypt": {"format": "luks"}"#),
        "Encryption of qcow2 images is not supported"
    );
    assert_eq!(
        refused(r#""cache-size": -1"#),
        "Value '-1' is out of range for parameter 'cache-size'"
    );
    let plain = format(r#"{"driver": "vpc", "file": "f", "backing": null}"#);
    assert_eq!(plain.unwrap_err(), "Parameter 'backing' is unexpected");
}
