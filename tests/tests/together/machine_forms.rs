//! What commands print for scripts is what its JSON Schema says; an independent program reads the schema.

use muster_coordinator::view::findings::Findings;
use muster_coordinator::view::plan::Plan;
use muster_coordinator::view::status::Status;
use muster_coordinator::view::{SchemaName, json, schema};
use muster_proto::journal::Journal;
use muster_proto::listing::{Form, list};
use muster_tests::cluster::TestCluster;
use serde_json::Value;

fn refused(name: SchemaName, value: &Value) -> Option<String> {
    let schema = schema(name);
    jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name:?} is no schema: {error}"));
    jsonschema::validate(&schema, value).err().map(|error| format!("{}: {error}", error.instance_path()))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_plan_findings_and_journal_are_as_their_schemas_say() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let status =
        |cluster: &TestCluster| parsed(&json(&Status::try_from(cluster.runs.status().unwrap()).unwrap()));
    let before = status(&cluster);
    assert_eq!((&before["phase"], refused(SchemaName::Status, &before)), (&Value::from("none"), None));

    let files = cluster.files("");
    let plan = Plan::try_from(&cluster.runs.plan(files.clone()).await.unwrap()).unwrap();
    assert!(plan.would_change());
    assert_eq!(refused(SchemaName::Plan, &parsed(&json(&plan))), None);
    let found = cluster.runs.preflight(files.clone()).await.unwrap();
    assert_eq!(refused(SchemaName::Findings, &parsed(&json(&Findings::from(&found)))), None);

    let mut wrong = files;
    wrong.spec = wrong.spec.replace("role: worker", "role: slave");
    let plan = Plan::try_from(&cluster.runs.plan(wrong).await.unwrap()).unwrap();
    assert_eq!(plan.problems.len(), 1);
    assert_eq!(refused(SchemaName::Plan, &parsed(&json(&plan))), None);

    let (_, end) = cluster.bootstrap("").await;
    assert_eq!(end.phase, "done", "{end:?}");
    let after = status(&cluster);
    assert_eq!((&after["kind"], refused(SchemaName::Status, &after)), (&Value::from("bootstrap"), None));
    let run = after["runId"].as_str().unwrap();
    assert_eq!(cluster.runs.status_of_run(run).unwrap().run_id, run);
    assert_eq!(cluster.runs.status_of_run("another").unwrap_err().code(), tonic::Code::NotFound);

    let journal = Journal::read_only(&cluster.folder.path().join("journal.db")).unwrap();
    let mut lines = Vec::new();
    list(&journal, Form::Json, &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.lines().count() > 50);
    for line in lines.lines() {
        assert_eq!(refused(SchemaName::Journal, &parsed(line)), None, "{line}");
    }
}

#[test]
fn a_schema_refuses_a_word_that_does_not_exist_and_a_field_that_is_missing() {
    let status = parsed(&json(
        &Status::try_from(muster_proto::coordinator::ClusterStatus {
            phase: "none".to_owned(),
            ..Default::default()
        })
        .unwrap(),
    ));
    assert_eq!(refused(SchemaName::Status, &status), None);
    let (mut word, mut missing) = (status.clone(), status);
    word["phase"] = "perhaps".into();
    missing.as_object_mut().unwrap().remove("runId");
    assert!(refused(SchemaName::Status, &word).is_some() && refused(SchemaName::Status, &missing).is_some());
}
