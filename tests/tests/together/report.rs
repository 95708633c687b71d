//! `coordinator report` over what a coordinator and its agents recorded: everything is told, nothing that is secret, in each form
//! the same, and also out of copies.

#![allow(clippy::disallowed_methods, reason = "a test copies the files that the report is made of")]

use std::path::Path;
use std::time::Duration;

use muster_agent::host::change::ProgramName;
use muster_coordinator::report::words::Language;
use muster_coordinator::report::{Sources, Which, html::html, markdown::markdown, report};
use muster_coordinator::view::report::{Report, Sight};
use muster_coordinator::view::{SchemaName, json, schema};
use muster_tests::cluster::TestCluster;

const TOKEN: &str = "s41abx.qkb1j0cxvu3rp1j0";

/// A bootstrap that failed with a program that tells a secret and attacks the page, and the one that mended it.
async fn failed_and_mended() -> TestCluster {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let said = format!("[join] <script>alert(1)</script> --token {TOKEN}\n```\n# no heading\u{1b}[2J\n");
    cluster.host("w1").fail_next(ProgramName::Kubeadm, 1, said);
    cluster.host("m1").with(|state| {
        state.put(
            "/etc/docker/daemon.json",
            "{\"proxies\": {\"http-proxy\": \"http://canary-of-docker@proxy\"}}\n",
        )
    });
    for name in ["m1", "w1", "w2"] {
        cluster.host(name).programs_take(Duration::from_millis(300));
    }
    let (_, end) = cluster.bootstrap("").await;
    assert_eq!(end.phase, "failed", "{end:?}");
    let (_, end) = cluster.bootstrap("").await;
    assert_eq!(end.phase, "done", "{end:?}");
    cluster
}

fn all_forms(report: &Report) -> [(&'static str, String); 5] {
    [
        ("html en", html(report, Language::En)),
        ("html zh", html(report, Language::Zh)),
        ("md en", markdown(report, Language::En)),
        ("md zh", markdown(report, Language::Zh)),
        ("json", json(report)),
    ]
}

fn of_folder(folder: &Path, which: &Which) -> Report {
    report(&Sources::at(folder), which).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_failed_and_a_mended_run_tells_both_and_no_secret_in_any_form() {
    let cluster = failed_and_mended().await;
    let told = of_folder(cluster.folder.path(), &Which::All);
    let [failed, mended] = &told.runs[..] else { panic!("{} runs", told.runs.len()) };

    let trouble = failed.troubles.iter().find(|trouble| trouble.failure.step == "kubeadm-join").unwrap();
    let by = trouble.mended.as_ref().unwrap();
    assert_eq!((&by.run, trouble.failure.node.as_str()), (&mended.id, "w1"));
    assert!(by.changes.iter().any(|change| change.contains("kubeadm join")), "{by:?}");
    let join = failed.steps.iter().find(|step| step.id == "w1/kubeadm-join").unwrap();
    let program = join.changes.iter().find(|change| change.exit_code == Some(1)).unwrap();
    assert!(program.output.contains("--token <redacted>") && program.duration_ms >= 300, "{program:?}");
    assert!(join.after.iter().any(|step| step == "m1/join-ticket"), "{:?}", join.after);

    assert_eq!(mended.hosts.len(), 3);
    let answered = mended.seen.iter().filter(|seen| seen.what == Sight::PagesAnswered);
    assert_eq!(
        answered.map(|seen| seen.node.as_str()).collect::<std::collections::BTreeSet<_>>(),
        ["m1", "w1", "w2"].into()
    );
    assert!(failed.seen.iter().all(|seen| seen.what != Sight::PagesAnswered), "it did not come so far");
    assert!(mended.cluster_file.as_ref().unwrap().text.contains("kubernetesVersion: v1.20.2"));
    assert!(mended.steps.iter().any(|step| step.changed_nothing()), "what was done is looked at again");
    jsonschema::validate(&schema(SchemaName::Report), &serde_json::from_str(&json(&told)).unwrap()).unwrap();

    for (form, text) in all_forms(&told) {
        for secret in [TOKEN, "canary-of-docker", "FAKE KEY", "RkFLRSBLRVk", "\u{1b}"] {
            assert!(!text.contains(secret), "{form} holds {secret:?}");
        }
        for expected in ["m1", "w2", "kubeadm-join", "v1.20.2", &mended.id] {
            assert!(text.contains(expected), "{form} lacks {expected:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_runs_nothing_and_no_program_writes_into_its_markup() {
    let cluster = failed_and_mended().await;
    let told = of_folder(cluster.folder.path(), &Which::All);
    let page = html(&told, Language::Zh);
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("lang=\"zh-CN\"") && page.contains("实验报告")
    );
    assert!(page.contains("default-src 'none'"), "it may load nothing");
    assert!(page.contains("&#60;script&#62;alert(1)"), "what was said is told");
    for foreign in [
        "<script",
        "<link",
        "<img",
        "<iframe",
        "@import",
        "url(",
        " src=",
        "javascript:",
        "http-equiv=\"refresh\"",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(
        page.contains("<svg") && page.contains("class=\"lead\""),
        "the timeline, with what waited for what"
    );
    assert!(page.contains("class=\"tag good\"") && page.contains("viewBox=\"0 0 924 "), "words stay apart");
    let text = markdown(&told, Language::En);
    assert!(text.contains("````\n") && !text.contains("\n# no heading"), "no fence is closed from within");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_enough_also_without_the_record_of_runs() {
    let cluster = failed_and_mended().await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal", "runs.db", "runs.db-wal"] {
        let from = cluster.folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
    }
    let whole = of_folder(copy.path(), &Which::All);
    assert_eq!(whole.runs, of_folder(cluster.folder.path(), &Which::All).runs);
    assert_eq!(of_folder(copy.path(), &Which::Newest).runs[..], whole.runs[1..]);
    let named = Which::Named(whole.runs[0].id.clone());
    assert_eq!(of_folder(&copy.path().join("journal.db"), &named).runs[..], whole.runs[..1]);
    let unknown = report(&Sources::at(copy.path()), &Which::Named("r0".into())).unwrap_err().to_string();
    assert!(unknown.contains("no run r0") && unknown.contains(&whole.runs[0].id), "{unknown}");

    for name in ["runs.db", "runs.db-wal"] {
        let _ = std::fs::remove_file(copy.path().join(name));
    }
    let alone = of_folder(copy.path(), &Which::All);
    let phases = |report: &Report| report.runs.iter().map(|run| run.phase).collect::<Vec<_>>();
    assert_eq!(phases(&alone), phases(&whole));
    assert_eq!(alone.runs[0].troubles.len(), whole.runs[0].troubles.len());
    assert!(alone.runs[0].hosts.is_empty() && alone.runs[0].cluster_file.is_none());

    // An agent's own journal is one too.
    let of_agent = copy.path().join("agent");
    std::fs::create_dir(&of_agent).unwrap();
    for end in ["", "-wal"] {
        let from = format!("{}{end}", cluster.agent_journal("w1").display());
        std::fs::copy(from, of_agent.join(format!("journal.db{end}"))).unwrap();
    }
    let agent = of_folder(&of_agent, &Which::All);
    assert!(agent.runs.iter().all(|run| run.steps.iter().all(|step| step.node == "w1")));
    for (form, text) in all_forms(&agent) {
        assert!(!text.contains(TOKEN) && !text.contains("RkFLRSBLRVk"), "{form}");
    }
}
