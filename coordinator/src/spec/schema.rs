//! The JSON Schema of cluster.yaml, printed from the table of fields; for editors, and for whoever writes such files by
//! program. What has to do with several values at once is not in it: `coordinator plan` says that.

use serde_json::{Map, Value, json};

use super::fields::{Absent, CLUSTER, Field, Form};

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut schema = of(&CLUSTER);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("The cluster that Muster makes");
    schema
}

fn of(form: &Form) -> Value {
    match form {
        Form::Fields(fields) => {
            let needed = fields.iter().filter(|field| field.absent == Absent::Wrong);
            let properties = fields.iter().map(|field| (field.name.to_owned(), property(field)));
            json!({
                "type": "object",
                "additionalProperties": false,
                "required": needed.map(|field| field.name).collect::<Vec<_>>(),
                "properties": properties.collect::<Map<_, _>>(),
            })
        }
        Form::List(item) => json!({"type": "array", "items": of(item)}),
        Form::Words(words) => json!({"enum": words}),
        Form::Flag => json!({"type": "boolean"}),
        Form::Number { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Text { example, .. } => json!({"type": "string", "examples": [example]}),
    }
}

fn property(field: &Field) -> Value {
    let mut schema = of(&field.form);
    schema["description"] = json!(field.about);
    if let Absent::Means(default) = field.absent {
        schema["default"] = match field.form {
            Form::Flag => json!(default == "true"),
            Form::Number { .. } => json!(default.parse::<u32>().ok()),
            _ => json!(default),
        };
    }
    schema
}
