//! Device models that are not virtio: one device a file.
