//! Agent and coordinator together, in one process: over fake hosts, and on real sockets. One program, because linking both
//! sides once for each file would take longer than the tests; `make test` gives every test a process of its own.

mod capabilities;
mod cluster_file;
mod connection_limits;
mod coordinator_port;
mod enrolment;
mod example;
mod failures;
mod flood;
mod growth;
mod hostile_agents;
mod hostile_values;
mod house;
mod journal_secrets;
mod kept_modes;
mod known_cluster;
mod machine_forms;
mod own_process;
mod owner;
mod packages;
mod preflight;
mod put_back;
mod removal;
mod report;
mod reset;
mod resume;
mod security_document;
mod stranger_memory;
mod strangers;
mod tls_errors;
mod user_clusters;
mod watching;
mod whole_run;
mod written_between;
