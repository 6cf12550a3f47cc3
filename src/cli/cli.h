// The subcommands: one file each, listed in main.c.
#ifndef BARID_CLI_CLI_H
#define BARID_CLI_CLI_H

struct command {
    const char *name, *summary;        // no summary: not listed by --help
    int (*run)(int argc, char **argv); // argv[0] is the subcommand's name; gives the exit code
};

#define BARID_VERSION "0.1.0"

#define EXIT_USAGE 2 // the command line makes no sense
int cli_serve(int argc, char **argv);
int cli_relay(int argc, char **argv);
int cli_migrate(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_receive(int argc, char **argv);
int cli_parked(int argc, char **argv);
int cli_consumer(int argc, char **argv);
int cli_parked_queue(int argc, char **argv); // with --queue
int cli_parked_bus(int argc, char **argv);   // with --bus
int cli_register(int argc, char **argv);
int cli_user(int argc, char **argv);
int cli_vhost(int argc, char **argv);
int cli_permission(int argc, char **argv);
int cli_definitions(int argc, char **argv);
int cli_login(int argc, char **argv);
int cli_logout(int argc, char **argv);
int cli_whoami(int argc, char **argv);
int cli_outbox(int argc, char **argv);
int cli_conversation(int argc, char **argv);
int cli_send(int argc, char **argv);
int cli_listen(int argc, char **argv);
int cli_inbox(int argc, char **argv);
int cli_read(int argc, char **argv);
int cli_track(int argc, char **argv);
int cli_bench(int argc, char **argv);

#endif
