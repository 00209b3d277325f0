use super::*;

fn help_of(path: &[&str]) -> String {
    let mut command = command();
    for name in path {
        command = command.find_subcommand(name).unwrap().clone();
    }
    // On one line each: the terminal's width is no matter here.
    command.render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_commands_are_sound() {
    command().debug_assert();
}

#[test]
fn help_states_defaults_and_variables() {
    let help = help_of(&["serve"]);
    assert!(help.contains("[default: 127.0.0.1:8080]") && help.contains("[env: CONTINUO_LISTEN"), "{help}");
    assert!(help.contains("[default: 15000]") && help.contains("--worker-lease-ms"));
    assert!(
        help.contains("[default: sessions_to_clickhouse_v1]") && help.contains("SESSION_REPLICATION_CLICKHOUSE_URL")
    );
    let demo = |command| help_of(&[command]).split("--demo <BOOL>").nth(1).unwrap().to_owned();
    assert!(demo("dev").split("[default: ").nth(1).unwrap().starts_with("true"));
    assert!(demo("serve").split("[default: ").nth(1).unwrap().starts_with("false"));
}

#[test]
fn every_option_of_every_command_is_explained() {
    let mut commands = vec![command()];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
        }
    }
}

#[tokio::test]
async fn wrong_usage_is_two_and_help_is_zero() {
    let code = async |args: &[&str]| format!("{:?}", run(args.iter().map(OsString::from)).await);
    assert_eq!(code(&["continuo", "--version"]).await, format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code(&["continuo", "sesions"]).await, format!("{:?}", ExitCode::from(2)));
    assert_eq!(code(&["continuo", "serve", "--replicas", "2"]).await, format!("{:?}", ExitCode::from(2)));
    assert_eq!(code(&["continuo", "tokens", "inspect", "no-token"]).await, format!("{:?}", ExitCode::from(2)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let args = ["continuo", "sessions", "tail", "chat-1", "--key", "k", "--url", &url];
    let code = run(args.iter().map(OsString::from)).await;
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}
