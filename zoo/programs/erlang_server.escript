#!/usr/bin/env escript
%% Erlang's ssh as a server: commands by os:cmd, ssh_sftpd, forwards.
%%
%% Run by zoo.servers.erlang. Arguments: folder with ssh_host_ed25519_key, user, password, folder
%% with authorized_keys, folder that is the home. Prints "ready PORT", ends with stdin.
main([System, User, Password, UserDir, Home]) ->
    ok = file:set_cwd(Home),
    os:putenv("HOME", Home),
    {ok, _} = application:ensure_all_started(ssh),
    Run = fun(Command) -> {ok, os:cmd(Command)} end,
    {ok, Daemon} = ssh:daemon({127, 0, 0, 1}, 0,
        [{system_dir, System},
         {user_dir, UserDir},
         {user_passwords, [{User, Password}]},
         {exec, {direct, Run}},
         {tcpip_tunnel_in, true},
         {parallel_login, true},
         {max_sessions, 200},
         {rekey_limit, {3600000, 1048576}},
         {subsystems, [ssh_sftpd:subsystem_spec([{cwd, Home}])]}]),
    {ok, Info} = ssh:daemon_info(Daemon),
    io:format("ready ~p~n", [proplists:get_value(port, Info)]),
    wait().

wait() ->
    case io:get_line("") of
        eof -> halt(0);
        {error, _} -> halt(0);
        _ -> wait()
    end.
