//! The object tree and the types of objects.

use api_spec::*;

use crate::control::Control;
use crate::machine::qom::{Node, QomError};

fn refused(error: QomError) -> QmpError {
    let class = match &error {
        QomError::NoObject(_) => ErrorClass::DeviceNotFound,
        QomError::Ambiguous(_) | QomError::NoProperty(..) => ErrorClass::GenericError,
    };
    QmpError::new(class, error.to_string())
}

impl Control {
    /// The whole tree, made anew.
    pub(in crate::control) fn object_tree(&self) -> Node {
        let machine = match &self.machine {
            Some(machine) => machine.qom(),
            None => Node::new("none-machine")
                .child("peripheral", Node::container())
                .child("peripheral-anon", Node::container())
                .child("unattached", Node::container()),
        };
        Node::container()
            .child("machine", machine)
            .child("objects", self.objects.qom())
            .child("chardevs", self.chardev_nodes())
    }

    pub(in crate::control) fn list_object(&self, path: &str) -> QmpResult<Vec<ObjectPropertyInfo>> {
        let tree = self.object_tree();
        let (_, node) = tree.resolve(path).map_err(refused)?;
        let info = |(name, kind)| ObjectPropertyInfo {
            name,
            r#type: kind,
            description: None,
            default_value: None,
        };
        Ok(node.list().into_iter().map(info).collect())
    }

    pub(super) fn get_property(&self, path: &str, property: &str) -> QmpResult<Value> {
        let tree = self.object_tree();
        let (full, node) = tree.resolve(path).map_err(refused)?;
        node.get(&full, property).map_err(refused)
    }

    /// qom-set. Few properties can be set once an object is there, or a device.
    pub(super) fn set_property(&mut self, args: &QomSetArgs) -> QmpResult<()> {
        let QomSetArgs {
            path,
            property,
            value,
        } = args;
        let tree = self.object_tree();
        let (full, node) = tree.resolve(path).map_err(refused)?;
        node.get(&full, property).map_err(refused)?;
        if let Some(id) = full.strip_prefix("/objects/")
            && self.objects.set(id, property, value)?
        {
            return Ok(());
        }
        if let Some(machine) = &self.machine
            && let Some(set) = machine.set_property(&full, property, value)
        {
            return set;
        }
        let kind = &node.kind;
        Err(QmpError::generic(format!(
            "Property '{kind}.{property}' is not writable"
        )))
    }

    fn chardev_nodes(&self) -> Node {
        let mut container = Node::container();
        for info in self.list_chardevs() {
            let kind = info.filename.split(':').next().unwrap_or_default();
            let node = Node::new(&format!("chardev-{kind}"));
            container = container.child(info.label, node);
        }
        container
    }
}

fn info(name: &str) -> Option<&'static DriverInfo> {
    DRIVERS.iter().find(|info| info.name == name)
}

/// Whether `ancestor` is the type itself or one that it descends from.
fn descends(driver: &'static DriverInfo, ancestor: &str) -> bool {
    let mut at = Some(driver);
    while let Some(driver) = at {
        if driver.name == ancestor {
            return true;
        }
        at = info(driver.parent);
    }
    false
}

/// qom-list-types.
pub fn types(args: &QomListTypesArgs) -> Vec<ObjectTypeInfo> {
    let ancestor = args.implements.as_deref().unwrap_or("object");
    let abstract_too = args.r#abstract.unwrap_or(false);
    DRIVERS
        .iter()
        .filter(|driver| descends(driver, ancestor))
        .filter(|driver| abstract_too || !driver.is_abstract)
        .map(|driver| ObjectTypeInfo {
            name: driver.name.to_owned(),
            r#abstract: driver.is_abstract.then_some(true),
            parent: (!driver.parent.is_empty()).then(|| driver.parent.to_owned()),
        })
        .collect()
}

/// device-list-properties.
///
/// # Errors
/// DeviceNotFound for an unknown type; a type that is no device has no such list.
pub fn driver_properties(name: &str) -> QmpResult<Vec<ObjectPropertyInfo>> {
    let driver = info(name).ok_or_else(|| QmpError::device_not_found(name))?;
    if !descends(driver, "device") || driver.is_abstract {
        return Err(QmpError::wrong_value(
            "typename",
            "a non-abstract device type",
        ));
    }
    let describe = |property: &PropertyInfo| ObjectPropertyInfo {
        name: property.name.to_owned(),
        r#type: property.kind.to_owned(),
        description: Some(property.description.to_owned()),
        default_value: property
            .default
            .and_then(|text| serde_json::from_str(text).ok()),
    };
    Ok(driver.properties.iter().map(describe).collect())
}
