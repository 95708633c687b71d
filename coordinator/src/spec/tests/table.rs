//! Table, reader and examples agree, field by field.

use serde_json::{Value, json};

use super::super::fields::{Absent, CLUSTER, Field, Form};
use super::{parse, problems};

/// The file that is good, as a tree that tests change; JSON is YAML.
pub(super) fn good() -> Value {
    json!({
        "apiVersion": "muster/v1", "kind": "Cluster", "metadata": {"name": "lab"},
        "spec": {
            "kubernetesVersion": "v1.20.2",
            "nodes": [{"name": "n1", "role": "control-plane"}, {"name": "n2", "role": "worker"}],
            "networking": {"podSubnet": "10.244.0.0/16", "manifest": "pod-network.yaml"},
        },
    })
}

/// Calls with the parents and the field, for every field of the table; the first item stands for a list.
pub(super) fn every(form: &'static Form, parents: &[&str], look: &mut impl FnMut(&[&str], &'static Field)) {
    let fields = match form {
        Form::Fields(fields) => fields,
        Form::List(item) => return every(item, &[parents, &["0"]].concat(), look),
        _ => return,
    };
    for field in *fields {
        look(parents, field);
        every(&field.form, &[parents, &[field.name]].concat(), look);
    }
}

/// The good file with this field of these parents changed, or taken away.
pub(super) fn with(parents: &[&str], field: &str, value: Option<Value>) -> String {
    let mut file = good();
    let mut place = &mut file;
    for parent in parents {
        place = match parent.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => place.as_object_mut().unwrap().entry(*parent).or_insert_with(|| json!({})),
        };
    }
    let fields = place.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    file.to_string()
}

/// A value other than what a field means when it is absent.
fn other_than_absent(field: &'static Field) -> Value {
    match (field.absent, &field.form) {
        (Absent::Means(default), Form::Flag) => json!(default != "true"),
        (_, Form::Number { most, .. }) => json!(most),
        (_, Form::List(item)) => json!([item.example()]),
        (Absent::Means(_), Form::Text { .. }) if field.name == "image" => json!("httpd:2.4"),
        (Absent::Means(_), Form::Text { .. }) => json!("10.96.0.0/16"),
        (_, form) => json!(form.example()),
    }
}

#[test]
fn every_field_of_the_table_is_read() {
    let plain = parse(&good().to_string());
    let mut seen = 0;
    every(&CLUSTER, &[], &mut |parents, field| {
        let name = format!("{}.{}", parents.join("."), field.name);
        seen += 1;
        if field.absent == Absent::Wrong {
            let found = problems(&with(parents, field.name, None));
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert!(found[0].what.contains("it is missing"), "{name}: {found:?}");
        } else if !matches!(field.form, Form::Fields(_)) {
            let changed = parse(&with(parents, field.name, Some(other_than_absent(field))));
            assert_ne!(changed, plain, "{name} changes what is wanted");
        }
    });
    assert!(seen > 20, "{seen} fields");
}

#[test]
fn no_group_of_fields_takes_one_that_is_not_in_the_table() {
    every(&CLUSTER, &[], &mut |parents, _| {
        let found = problems(&with(parents, "zzzzzzzz", Some(json!("x"))));
        assert_eq!(found.len(), 1, "{parents:?}: {found:?}");
        assert!(found[0].what.contains("there is no such field"), "{parents:?}: {found:?}");
    });
}

#[test]
fn every_example_and_default_of_the_table_may_stand_there() {
    every(&CLUSTER, &[], &mut |_, field| {
        let form = if let Form::List(item) = &field.form { item } else { &field.form };
        let text = match field.absent {
            Absent::Means(default) => default.to_owned(),
            _ => form.example(),
        };
        if !matches!(form, Form::Fields(_)) {
            assert_eq!(form.refusal(&text, false), None, "{}", field.name);
        }
    });
}
