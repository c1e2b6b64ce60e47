//! `-sandbox`, `-add-dir`, `-runas`, `-chroot`, `-run-with`: what the process may still do.

use super::args::{Arg, CliError};
use super::opts::{Kind, Opts, Table};
use crate::armour::plan::{Directory, Elevate, Files, SandboxPlan, UserPlan};

type Done = Result<(), CliError>;

/// Takes one `-sandbox`. Of several each adds to those before it.
///
/// # Errors
/// QEMU's words for keys and values that there are not.
pub fn sandbox(plan: &mut SandboxPlan, arg: &Arg) -> Done {
    let table = Table {
        implied: Some("enable"),
        keys: &[
            ("enable", Kind::Bool),
            ("obsolete", Kind::Text),
            ("elevateprivileges", Kind::Text),
            ("spawn", Kind::Text),
            ("resourcecontrol", Kind::Text),
            ("files", Kind::Text),
            ("allow", Kind::Text),
        ],
    };
    let opts = Opts::parse(&arg.value, &table).map_err(|message| arg.error(message))?;
    plan.on = opts.flag("enable").unwrap_or(plan.on);
    plan.allow.extend(opts.text("allow").map(str::to_owned));
    let allowed = |value: &str| match value {
        "allow" => Some(true),
        "deny" => Some(false),
        _ => None,
    };
    let elevate = |value: &str| match value {
        "allow" => Some(Elevate::Allow),
        "deny" => Some(Elevate::Deny),
        "children" => Some(Elevate::Children),
        _ => None,
    };
    let files = |value: &str| match value {
        "any" => Some(Files::Any),
        "named" => Some(Files::Named),
        _ => None,
    };
    choose(&mut plan.obsolete, &opts, "obsolete", arg, allowed)?;
    choose(&mut plan.elevate, &opts, "elevateprivileges", arg, elevate)?;
    choose(&mut plan.spawn, &opts, "spawn", arg, allowed)?;
    choose(
        &mut plan.resource_control,
        &opts,
        "resourcecontrol",
        arg,
        allowed,
    )?;
    choose(&mut plan.files, &opts, "files", arg, files)
}

fn choose<T>(
    place: &mut T,
    opts: &Opts,
    key: &str,
    arg: &Arg,
    meaning: impl Fn(&str) -> Option<T>,
) -> Done {
    if let Some(value) = opts.text(key) {
        let chosen = meaning(value);
        *place = chosen.ok_or_else(|| arg.error(format!("invalid argument for {key}")))?;
    }
    Ok(())
}

/// Takes one `-add-dir`.
///
/// # Errors
/// When it names no path, or something else.
pub fn add_dir(plan: &mut SandboxPlan, arg: &Arg) -> Done {
    let table = Table {
        implied: Some("path"),
        keys: &[("path", Kind::Text), ("readonly", Kind::Bool)],
    };
    let opts = Opts::parse(&arg.value, &table).map_err(|message| arg.error(message))?;
    let Some(path) = opts.text("path").filter(|path| !path.is_empty()) else {
        return Err(arg.error("Parameter 'path' is missing"));
    };
    plan.directories.push(Directory {
        path: path.into(),
        read_only: opts.flag("readonly").unwrap_or(false),
        arg: arg.clone(),
    });
    Ok(())
}

/// Takes one `-run-with`. Of several each adds to those before it.
///
/// # Errors
/// QEMU's words for keys and values that there are not.
pub fn run_with(plan: &mut SandboxPlan, arg: &Arg) -> Done {
    let table = Table {
        implied: None,
        keys: &[
            ("async-teardown", Kind::Bool),
            ("chroot", Kind::Text),
            ("exit-with-parent", Kind::Bool),
            ("user", Kind::Text),
        ],
    };
    let opts = Opts::parse(&arg.value, &table).map_err(|message| arg.error(message))?;
    if opts.flag("async-teardown") == Some(true) {
        // It takes a second process that shares all our memory, and so our compromise.
        return Err(arg.error("async-teardown is not supported"));
    }
    if let Some(user) = opts.text("user") {
        run_as(plan, arg, user);
    }
    if let Some(directory) = opts.text("chroot") {
        plan.chroot = Some(directory.into());
    }
    plan.exit_with_parent = opts
        .flag("exit-with-parent")
        .unwrap_or(plan.exit_with_parent);
    Ok(())
}

/// Takes one `-runas`, or what `-run-with` says of it. The last one counts.
pub fn run_as(plan: &mut SandboxPlan, arg: &Arg, user: &str) {
    plan.user = Some(UserPlan {
        name: user.to_owned(),
        arg: arg.clone(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(name: &'static str, value: &str) -> Arg {
        Arg {
            name,
            value: value.to_owned(),
            location: format!("-{name} {value}"),
        }
    }

    fn plan(take: fn(&mut SandboxPlan, &Arg) -> Done, values: &[&str]) -> SandboxPlan {
        let mut plan = SandboxPlan::default();
        for value in values {
            take(&mut plan, &arg("x", value)).unwrap();
        }
        plan
    }

    fn refusal(take: fn(&mut SandboxPlan, &Arg) -> Done, value: &str) -> String {
        let error = take(&mut SandboxPlan::default(), &arg("x", value));
        error.expect_err(value).message
    }

    #[test]
    fn a_sandbox_can_be_asked_for_as_libvirt_does() {
        let text = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        let expected = SandboxPlan {
            elevate: Elevate::Deny,
            spawn: false,
            resource_control: false,
            ..SandboxPlan::default()
        };
        assert_eq!(plan(sandbox, &[text]), expected);
        assert_eq!(plan(sandbox, &["on"]), SandboxPlan::default());
        assert_eq!(plan(sandbox, &[""]), SandboxPlan::default());
    }

    #[test]
    fn a_second_sandbox_adds_to_the_first() {
        let made = plan(sandbox, &["on,spawn=deny", "on,files=named,obsolete=allow"]);
        assert!(made.on && !made.spawn && made.obsolete);
        assert_eq!(made.files, Files::Named);
        assert!(!plan(sandbox, &["on,spawn=deny", "off"]).on);
        assert_eq!(
            plan(sandbox, &["on,elevateprivileges=children"]).elevate,
            Elevate::Children
        );
    }

    #[test]
    fn what_is_no_sandbox_is_refused() {
        for (value, words) in [
            ("maybe", "Parameter 'enable' expects 'on' or 'off'"),
            ("on,obsolete=on", "invalid argument for obsolete"),
            (
                "on,elevateprivileges=maybe",
                "invalid argument for elevateprivileges",
            ),
            ("on,spawn=children", "invalid argument for spawn"),
            ("on,spawn", "invalid argument for spawn"),
            (
                "on,resourcecontrol=",
                "invalid argument for resourcecontrol",
            ),
            ("on,files=none", "invalid argument for files"),
            ("on,bogus=1", "Invalid parameter 'bogus'"),
        ] {
            assert_eq!(refusal(sandbox, value), words, "{value}");
        }
    }

    #[test]
    fn directories_add_up() {
        let made = plan(add_dir, &["path=/a,,b,readonly=on", "/c"]);
        let found: Vec<_> = made
            .directories
            .iter()
            .map(|directory| (directory.path.to_str().unwrap(), directory.read_only))
            .collect();
        assert_eq!(found, [("/a,b", true), ("/c", false)]);
        assert_eq!(
            refusal(add_dir, "readonly=on"),
            "Parameter 'path' is missing"
        );
        assert_eq!(refusal(add_dir, "path="), "Parameter 'path' is missing");
        assert_eq!(
            refusal(add_dir, "/a,readonly=maybe"),
            "Parameter 'readonly' expects 'on' or 'off'"
        );
    }

    #[test]
    fn what_to_run_with_adds_up() {
        let made = plan(run_with, &["user=nobody,chroot=/a", "exit-with-parent=on"]);
        assert_eq!(made.user.unwrap().name, "nobody");
        assert_eq!(made.chroot.unwrap().to_str(), Some("/a"));
        assert!(made.exit_with_parent);
        assert!(!plan(run_with, &["async-teardown=off"]).exit_with_parent);
        assert_eq!(
            refusal(run_with, "async-teardown=on"),
            "async-teardown is not supported"
        );
        assert_eq!(refusal(run_with, "bogus=1"), "Invalid parameter 'bogus'");
        assert_eq!(
            refusal(run_with, "exit-with-parent=maybe"),
            "Parameter 'exit-with-parent' expects 'on' or 'off'"
        );
    }
}
