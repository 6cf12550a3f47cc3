// The benchmarks of `barid bench`, one file each.
#ifndef BARID_CLI_BENCH_BENCH_H
#define BARID_CLI_BENCH_BENCH_H

int bench_amqp(int argc, char **argv);
int bench_journey(int argc, char **argv);
int bench_connections(int argc, char **argv);

#endif
