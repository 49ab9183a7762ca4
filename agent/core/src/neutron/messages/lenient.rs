//! Lists and tables of which one broken entry does not lose the others.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, IntoDeserializer as _, value::StrDeserializer},
};
use serde_json::Value;

use super::{MessageError, parse};

/// Fields that say whom an entry is about, the most telling one first.
const NAMES: [&str; 4] = ["device", "id", "port_id", "name"];

/// An entry that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {error}")]
pub struct BadEntry {
    /// Whom it is about, as far as that can be told: its key, device or id, else its place from 0.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub error: MessageError,
}

/// A list: what was understood in its order, and what was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<T> {
    /// What was understood.
    pub good: Vec<T>,
    /// What was not.
    pub bad: Vec<BadEntry>,
}

/// A table: what was understood by its key, and what was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<K, V> {
    /// What was understood.
    pub good: BTreeMap<K, V>,
    /// What was not.
    pub bad: Vec<BadEntry>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { good: Vec::new(), bad: Vec::new() }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { good: BTreeMap::new(), bad: Vec::new() }
    }
}

impl<T> From<Vec<T>> for Entries<T> {
    fn from(good: Vec<T>) -> Self {
        Self { good, bad: Vec::new() }
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Table<K, V> {
    fn from(good: BTreeMap<K, V>) -> Self {
        Self { good, bad: Vec::new() }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entries = Self::default();
        for (index, value) in
            Option::<Vec<Value>>::deserialize(deserializer)?.unwrap_or_default().into_iter().enumerate()
        {
            let name = name(&value);
            match parse(value) {
                Ok(entry) => entries.good.push(entry),
                Err(error) => {
                    entries.bad.push(BadEntry { name: name.unwrap_or_else(|| format!("entry {index}")), error });
                }
            }
        }
        Ok(entries)
    }
}

impl<'de, K: DeserializeOwned + Ord, V: DeserializeOwned> Deserialize<'de> for Table<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Self::default();
        for (name, value) in Option::<BTreeMap<String, Value>>::deserialize(deserializer)?.unwrap_or_default() {
            match key(&name).and_then(|key| Ok((key, parse(value)?))) {
                Ok((key, value)) => _ = table.good.insert(key, value),
                Err(error) => table.bad.push(BadEntry { name, error }),
            }
        }
        Ok(table)
    }
}

/// What is written is what was understood.
impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.good.serialize(serializer)
    }
}

impl<K: Serialize, V: Serialize> Serialize for Table<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.good.serialize(serializer)
    }
}

fn key<K: DeserializeOwned>(text: &str) -> Result<K, MessageError> {
    let deserializer: StrDeserializer<'_, serde_json::Error> = text.into_deserializer();
    K::deserialize(deserializer).map_err(|error| MessageError::new("its key", error))
}

/// Whom a value is about.
fn name(value: &Value) -> Option<String> {
    let fields = value.get("versioned_object.data").unwrap_or(value);
    NAMES.iter().find_map(|name| fields.get(name)?.as_str()).filter(|name| !name.is_empty()).map(str::to_owned)
}

impl<T> Entries<T> {
    /// How many there are, understood or not.
    pub fn len(&self) -> usize {
        self.good.len() + self.bad.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// For lists that are null when they are empty.
pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
