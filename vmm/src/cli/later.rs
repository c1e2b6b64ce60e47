//! `-set`: adds to an option that was given before.

use super::args::{Arg, CliError};
use super::chardev;
use super::opts::split;
use super::plan::{DiskPlan, Plan};

/// Groups whose options are no lists of keys that could be added to.
const OTHERWISE: [&str; 9] = [
    "object", "machine", "accel", "smp-opts", "memory", "audiodev", "blockdev", "display", "compat",
];
/// Groups that exist and whose options have no ids here, or are not kept.
const WITHOUT_IDS: [&str; 12] = [
    "mon",
    "rtc",
    "global",
    "name",
    "msg",
    "action",
    "add-fd",
    "overcommit",
    "sandbox",
    "run-with",
    "boot-opts",
    "fw_cfg",
];

/// Takes `group.id.arg=value`.
///
/// # Errors
/// QEMU's words for text that is no such thing, for groups that there are not or that cannot be
/// added to, and for an id that nobody has.
pub fn set(plan: &mut Plan, arg: &Arg) -> Result<(), CliError> {
    let Some((group, id, addition)) = parse(&arg.value) else {
        return Err(arg.error(format!("can't parse: \"{}\"", arg.value)));
    };
    if OTHERWISE.contains(&group) {
        return Err(arg.error(format!("-set is not supported with {group}")));
    }
    let found = match group {
        "device" => add(plan.devices.iter_mut(), id, &addition),
        "drive" => {
            let drives = plan.disks.iter_mut().filter_map(|disk| match disk {
                DiskPlan::Drive(drive) => Some(drive),
                DiskPlan::Blockdev(_) => None,
            });
            add(drives, id, &addition)
        }
        "netdev" => add(plan.netdevs.iter_mut(), id, &addition),
        "nic" => add(plan.nics.iter_mut(), id, &addition),
        "net" => add(plan.nets.iter_mut(), id, &addition),
        "chardev" => add_to_chardev(plan, arg, id, &addition)?,
        known if WITHOUT_IDS.contains(&known) => false,
        _ => return Err(arg.error(format!("There is no option group '{group}'"))),
    };
    match found {
        true => Ok(()),
        false => Err(arg.error(format!("there is no {group} \"{id}\" defined"))),
    }
}

/// Group, id, and what is added.
fn parse(text: &str) -> Option<(&str, &str, String)> {
    let (group, rest) = text.split_once('.')?;
    let (id, rest) = rest.split_once('.')?;
    let (key, value) = rest.split_once('=')?;
    let whole = !group.is_empty() && !id.is_empty() && !key.is_empty();
    // A comma belongs to the value.
    let value = value.replace(',', ",,");
    whole.then(|| (group, id, format!(",{key}={value}")))
}

/// Whether the option has this id. What is JSON cannot be added to.
fn has_id(value: &str, id: &str) -> bool {
    !value.starts_with('{')
        && split(value)
            .iter()
            .rev()
            .find_map(|item| item.strip_prefix("id="))
            == Some(id)
}

fn add<'a>(args: impl Iterator<Item = &'a mut Arg>, id: &str, addition: &str) -> bool {
    for arg in args {
        if has_id(&arg.value, id) {
            arg.value.push_str(addition);
            return true;
        }
    }
    false
}

fn add_to_chardev(plan: &mut Plan, arg: &Arg, id: &str, addition: &str) -> Result<bool, CliError> {
    let mut chardevs = plan.chardevs.iter_mut();
    let Some((made, arguments)) = chardevs.find(|(made, _)| has_id(&made.value, id)) else {
        return Ok(false);
    };
    made.value.push_str(addition);
    *arguments = chardev::chardev(&made.value).map_err(|error| arg.error(error))?;
    Ok(true)
}
