//! Saved state that mirrors structures of the kernel's.

/// Whether a field need not be written.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Makes a type for a saved state with the fields of a structure of the kernel's, and both ways
/// between them. Fields behind `without` are not kept (padding, what only this host knows); a
/// field that is in neither list does not compile.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident = $kernel:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    } $(without $($lost:ident),*)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[serde(skip_serializing_if = "crate::mirror::is_default")]
                pub $field: $type,
            )*
        }

        impl From<$kernel> for $name {
            fn from(kernel: $kernel) -> Self {
                let $kernel { $($field,)* $($($lost: _,)*)? } = kernel;
                $name { $($field: $field.into(),)* }
            }
        }

        impl From<$name> for $kernel {
            #[allow(clippy::needless_update)] // where nothing is left out
            fn from(saved: $name) -> Self {
                let $name { $($field,)* } = saved;
                $kernel { $($field: $field.into(),)* ..Default::default() }
            }
        }
    };
}

pub(crate) use mirror;
