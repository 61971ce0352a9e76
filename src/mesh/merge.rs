//! Merges the values that the layers have for a traffic setting.

use super::{Input, Source};
use crate::{
    profile::{Entry, Key, Merge, TrafficSettings, Value, unite},
    reason::{Explanation, Reason},
};

/// The settings of each layer, and the inputs that counted.
pub(super) struct Layers<'a> {
    /// The highest first.
    pub(super) said: [(Source, &'a TrafficSettings); 3],
    /// The inputs, if they are asked for.
    pub(super) inputs: Option<Vec<Input>>,
}

impl<'a> Merge<'a> for Layers<'a> {
    fn replaced<T: Value + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a T>,
        built_in: T,
    ) -> Result<T, Explanation> {
        for (source, settings) in self.said {
            if let Some(value) = get(settings) {
                self.input(key, value, source);
                return Ok(value.clone());
            }
        }
        self.built_in(key, &built_in);
        Ok(built_in)
    }

    fn united<T: Entry + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a Vec<T>>,
        built_in: Vec<T>,
    ) -> Result<Vec<T>, Explanation> {
        let (mut all, mut is_said) = (Vec::new(), false);
        for (source, settings) in self.said {
            if let Some(list) = get(settings) {
                is_said = true;
                unite(&mut all, list);
                self.input(key, list, source);
            }
        }
        if !is_said {
            self.built_in(key, &built_in);
            return Ok(built_in);
        }
        if all.len() > T::MOST {
            let most = T::MOST;
            return Err(Reason::InvalidAnnotation.because(format!(
                "{key} has more than {most} entries in pod, NAD and profile together"
            )));
        }
        Ok(all)
    }
}

impl Layers<'_> {
    fn built_in(&mut self, key: Key, value: &impl Value) {
        if self.inputs.is_some() && !value.text().is_empty() {
            self.input(key, value, Source::BuiltIn);
        }
    }

    fn input(&mut self, key: Key, value: &impl Value, source: Source) {
        self.note(key.as_str(), || value.text(), source);
    }

    pub(super) fn note(&mut self, name: &str, value: impl FnOnce() -> String, source: Source) {
        if let Some(inputs) = &mut self.inputs {
            inputs.push(Input {
                name: name.into(),
                value: value(),
                source,
            });
        }
    }
}
