//! Conversations with systemd over the system bus. Each has its own connection: a bus that was restarted needs no care.

use std::collections::HashMap;
use std::time::Duration;

use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Structure};
use zbus_systemd::systemd1::ManagerProxy;

use crate::host::HostError;

/// systemd answers in milliseconds; while it reads its unit files again, in seconds.
const LIMIT: Duration = Duration::from_secs(25);

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// One conversation.
pub(super) struct Bus {
    connection: Connection,
    pub(super) systemd: ManagerProxy<'static>,
}

/// The properties of a unit at one moment.
pub(super) struct Properties(HashMap<String, OwnedVariant>);

impl Bus {
    pub(super) async fn connect() -> Result<Self, HostError> {
        let connected = async {
            let connection = zbus::connection::Builder::system().method_timeout(LIMIT).build().await?;
            let systemd = ManagerProxy::new(&connection).await?;
            Ok(Self { connection, systemd })
        };
        match tokio::time::timeout(LIMIT, connected).await {
            Ok(bus) => bus.map_err(|error| refused("a connection to the system bus", error)),
            Err(_) => Err(HostError::TimedOut { what: "the system bus".to_owned(), limit: LIMIT }),
        }
    }

    /// What all units have.
    pub(super) async fn unit(&self, path: &OwnedObjectPath) -> zbus::Result<Properties> {
        self.properties(path, UNIT).await
    }

    /// What services have.
    pub(super) async fn service(&self, path: &OwnedObjectPath) -> zbus::Result<Properties> {
        self.properties(path, SERVICE).await
    }

    async fn properties(&self, path: &OwnedObjectPath, interface: &'static str) -> zbus::Result<Properties> {
        let proxy = PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Properties(proxy.get_all(InterfaceName::from_static_str_unchecked(interface)).await?))
    }
}

impl Properties {
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default()
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.0.get(name).and_then(|value| value.try_clone().ok()?.try_into().ok()).unwrap_or_default()
    }

    pub(super) fn signed(&self, name: &str) -> i32 {
        self.0.get(name).and_then(|value| i32::try_from(value).ok()).unwrap_or_default()
    }

    /// The number of the job that is queued for the unit; 0 for none.
    pub(super) fn job(&self) -> u32 {
        let job = self.0.get("Job").and_then(|value| <&Structure<'_>>::try_from(value).ok());
        job.and_then(|job| u32::try_from(job.fields().first()?).ok()).unwrap_or_default()
    }

    pub(super) fn unsigned(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
    }
}

/// systemd's own words on what it would not do.
pub(super) fn refused(what: impl Into<String>, error: zbus::Error) -> HostError {
    let message = match error {
        zbus::Error::MethodError(name, Some(text), _) if text.is_empty() => name.to_string(),
        zbus::Error::MethodError(_, Some(text), _) => text,
        zbus::Error::MethodError(name, None, _) => name.to_string(),
        other => other.to_string(),
    };
    HostError::Systemd { what: what.into(), message }
}

/// Whether systemd says that it has no such unit in memory, or had none when its properties were asked for.
pub(super) fn is_unknown_unit(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => {
            ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject"]
                .contains(&name.as_str())
        }
        zbus::Error::FDO(error) => {
            matches!(**error, zbus::fdo::Error::UnknownObject(_) | zbus::fdo::Error::UnknownInterface(_))
        }
        _ => false,
    }
}
