//! Versioned objects in messages: pulled one by one, in bulk, and pushed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, Entries, MessageError,
    objects::{AddressGroup, Network, Object, Port, QosPolicy, SubPort, Trunk},
    parse,
};

/// The kinds of objects that this agent understands, with the version of each. The server converts newer ones down.
pub const KINDS: [(&str, &str); 6] = [
    ("QosPolicy", "1.10"),
    ("Trunk", "1.1"),
    ("SubPort", "1.0"),
    ("Port", "1.7"),
    ("Network", "1.1"),
    ("AddressGroup", "1.2"),
];

/// The topic on which objects of a kind and version are pushed.
pub fn push_topic(kind: &str, version: &str) -> String {
    format!("neutron-vo-{kind}-{version}")
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `QosPolicy`.
    QosPolicy(QosPolicy),
    /// `AddressGroup`.
    AddressGroup(AddressGroup),
    /// `Trunk`.
    Trunk(Trunk),
    /// `SubPort`.
    SubPort(SubPort),
    /// `Port`.
    Port(Box<Port>),
    /// `Network`.
    Network(Network),
}

/// An object that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its kind, such as `QosPolicy`.
    pub kind: String,
    /// Its id; that of the port for a `SubPort`, which has none of its own.
    pub id: Uuid,
}

/// Objects that the server has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// New, or different from before. Servers do not tell the two apart reliably.
    Changed(Entries<Resource>),
    /// Gone.
    Deleted(Entries<Gone>),
}

impl<'de> Deserialize<'de> for Push {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Arguments {
            event_type: String,
            resource_list: Value,
        }
        let Arguments { event_type, resource_list } = Arguments::deserialize(deserializer)?;
        let push = match event_type.as_str() {
            "created" | "updated" => parse(resource_list).map(Self::Changed),
            "deleted" => parse(resource_list).map(Self::Deleted),
            other => {
                Err(MessageError::new("event_type", format_args!("{other:?} is neither created, updated nor deleted")))
            }
        };
        push.map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = known_object(deserializer)?;
        let resource = match object.name.as_str() {
            "QosPolicy" => parse(object.data).map(Self::QosPolicy),
            "AddressGroup" => parse(object.data).map(Self::AddressGroup),
            "Trunk" => parse(object.data).map(Self::Trunk),
            "SubPort" => parse(object.data).map(Self::SubPort),
            "Port" => parse(object.data).map(|port| Self::Port(Box::new(port))),
            "Network" => parse(object.data).map(Self::Network),
            other => {
                Err(MessageError::new("versioned_object.name", format_args!("{other:?} is of no use to this agent")))
            }
        };
        resource.map_err(serde::de::Error::custom)
    }
}

/// As the version in [`KINDS`].
impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, data) = match self {
            Self::QosPolicy(policy) => ("QosPolicy", json!(policy)),
            Self::AddressGroup(group) => ("AddressGroup", json!(group)),
            Self::Trunk(trunk) => ("Trunk", json!(trunk)),
            Self::SubPort(sub_port) => ("SubPort", json!(sub_port)),
            Self::Port(port) => ("Port", json!(port)),
            Self::Network(network) => ("Network", json!(network)),
        };
        let version = KINDS.iter().find(|(kind, _)| *kind == name).map_or("1.0", |(_, version)| version);
        Object::new(name, version, data).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Gone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Data {
            id: Option<Uuid>,
            port_id: Option<Uuid>,
        }
        let Object { name: kind, data, .. } = known_object(deserializer)?;
        let data: Data = parse(data).map_err(serde::de::Error::custom)?;
        let id = data.id.or(data.port_id).ok_or_else(|| serde::de::Error::custom("id: missing"))?;
        Ok(Self { kind, id })
    }
}

/// An object whose version has fields that this agent knows the meaning of.
fn known_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Object<Value>, D::Error> {
    let object = Object::<Value>::deserialize(deserializer)?;
    match object.version.split('.').next() {
        Some("1") => Ok(object),
        _ => Err(serde::de::Error::custom(MessageError::new(
            "versioned_object.version",
            format_args!("{:?} of {} is not understood: this agent knows 1.x", object.version, object.name),
        ))),
    }
}

/// Asks for one object. Servers answer for few kinds, such as `QosPolicy` and `Trunk`; null when there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// The kind, such as `QosPolicy`.
    pub resource_type: String,
    /// The version that is wanted.
    pub version: String,
    /// The object; of a `Trunk`, the port that carries the others.
    pub resource_id: Uuid,
}

impl Call for Pull {
    const METHOD: &str = "pull";
    const VERSION: &str = "1.1";
    type Reply = Option<Resource>;
}

/// Asks for all objects of a kind, or those with certain values. Servers answer for every kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkPull {
    /// The kind, such as `Port`.
    pub resource_type: String,
    /// The version that is wanted.
    pub version: String,
    /// Values that are wanted, by field; all objects without. The server refuses names that it does not know.
    pub filter_kwargs: Option<Map<String, Value>>,
}

impl BulkPull {
    /// Asks for the objects of a kind with certain ids.
    pub fn by_ids<T: Serialize>(kind: &str, version: &str, ids: &[T]) -> Self {
        Self::by("id", kind, version, ids)
    }

    /// Asks for the objects of a kind that have one of certain values in a field.
    pub fn by<T: Serialize>(field: &str, kind: &str, version: &str, values: &[T]) -> Self {
        let filter = Map::from_iter([(field.to_owned(), json!(values))]);
        Self { resource_type: kind.to_owned(), version: version.to_owned(), filter_kwargs: Some(filter) }
    }
}

impl Call for BulkPull {
    const METHOD: &str = "bulk_pull";
    const VERSION: &str = "1.1";
    type Reply = Entries<Resource>;
}
