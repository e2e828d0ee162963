/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The event loop: descriptors, timers, signals, functions from other threads, and ends of sources at awkward
 * times. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "rpc/base/clock.h"
#include "rpc/base/loop.h"

#define GUARD_MS 30000 /* a test that would hang fails instead */

struct fixture {
    struct loop *loop;
    struct loop_source *guard, *first, *second;
    int sockets[2];
    int count, other;
    bool guarded;
    atomic_int posted;
};

static void on_guard(void *data)
{
    struct fixture *fixture = data;
    fixture->guarded = true;
    loop_stop(fixture->loop);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    *state = &fixture;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fixture.sockets) < 0 ||
        loop_new(&fixture.loop, NULL) < 0 ||
        loop_add_timer(fixture.loop, on_guard, &fixture, &fixture.guard, NULL) < 0)
        return -1;
    loop_timer_arm(fixture.guard, GUARD_MS);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    loop_free(fixture->loop);
    close(fixture->sockets[0]);
    close(fixture->sockets[1]);
    return 0;
}

static void run(struct fixture *fixture)
{
    assert_int_equal(loop_run(fixture->loop, NULL), 0);
    assert_false(fixture->guarded);
}

static void say(struct fixture *fixture)
{
    assert_int_equal(write(fixture->sockets[1], "x", 1), 1);
}

/* ---- Descriptors ---- */

static void count_to_three(void *data, uint32_t events)
{
    struct fixture *fixture = data;
    char byte;
    assert_true(events & EPOLLIN);
    assert_int_equal(read(fixture->sockets[0], &byte, 1), 1);
    if (++fixture->count == 3)
        loop_stop(fixture->loop);
    else
        say(fixture);
}

static void descriptors(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_add_fd(fixture->loop, fixture->sockets[0], EPOLLIN, count_to_three, fixture,
                                 &fixture->first, NULL),
                     0);
    say(fixture);
    run(fixture);
    assert_int_equal(fixture->count, 3);
}

static void stop_when_writable(void *data, uint32_t events)
{
    struct fixture *fixture = data;
    assert_true(events & EPOLLOUT);
    loop_stop(fixture->loop);
}

static void events_change(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_add_fd(fixture->loop, fixture->sockets[0], 0, stop_when_writable, fixture,
                                 &fixture->first, NULL),
                     0);
    assert_int_equal(loop_source_set_events(fixture->first, EPOLLOUT), 0);
    run(fixture);
}

static void bad_descriptors_are_an_error(void **state)
{
    struct fixture *fixture = *state;
    autoerror struct error *error = NULL;
    struct loop_source *source = NULL;
    assert_int_equal(loop_add_fd(fixture->loop, -1, EPOLLIN, count_to_three, fixture, &source, &error),
                     -EBADF);
    assert_null(source);
    assert_non_null(error);
}

/* Both sources are ready in one turn; whichever comes first ends both, and the other
 * must not run any more. */
static void end_both(void *data, uint32_t events)
{
    struct fixture *fixture = data;
    (void)events;
    fixture->count++;
    loop_source_free(fixture->first);
    loop_source_free(fixture->second);
    loop_source_free(fixture->second); /* a second time does no harm in the same turn */
    loop_stop(fixture->loop);
}

static void a_callback_ends_others_and_itself(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(
        loop_add_fd(fixture->loop, fixture->sockets[0], EPOLLOUT, end_both, fixture, &fixture->first, NULL),
        0);
    assert_int_equal(
        loop_add_fd(fixture->loop, fixture->sockets[1], EPOLLOUT, end_both, fixture, &fixture->second, NULL),
        0);
    run(fixture);
    assert_int_equal(fixture->count, 1);
    loop_source_free(NULL);
}

/* ---- Timers ---- */

static void stop_now(void *data)
{
    struct fixture *fixture = data;
    fixture->count++;
    loop_stop(fixture->loop);
}

static void count_other(void *data)
{
    ((struct fixture *)data)->other++;
}

static void timers(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_add_timer(fixture->loop, stop_now, fixture, &fixture->first, NULL), 0);
    assert_int_equal(loop_add_timer(fixture->loop, count_other, fixture, &fixture->second, NULL), 0);
    int64_t before = clock_monotonic_ms();
    loop_timer_arm(fixture->second, 1);
    loop_timer_arm(fixture->second, -1);
    loop_timer_arm(fixture->first, 3600000);
    loop_timer_arm(fixture->first, 50);
    run(fixture);
    assert_true(clock_monotonic_ms() - before >= 50);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(fixture->other, 0);
}

static void a_delay_of_zero_comes_at_once(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_add_timer(fixture->loop, stop_now, fixture, &fixture->first, NULL), 0);
    loop_timer_arm(fixture->first, 0);
    run(fixture);
    assert_int_equal(fixture->count, 1);
}

/* ---- Signals ---- */

static void on_signal(void *data, int number)
{
    struct fixture *fixture = data;
    fixture->count += number;
    if (fixture->count == SIGUSR1 + SIGUSR2)
        loop_stop(fixture->loop);
}

static void signals(void **state)
{
    struct fixture *fixture = *state;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    assert_int_equal(loop_add_signals(fixture->loop, &set, on_signal, fixture, &fixture->first, NULL), 0);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR2);
    run(fixture);
    loop_source_free(fixture->first);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- Other threads ---- */

#define POSTERS 4
#define POSTS   5000

static void count_post(void *data)
{
    struct fixture *fixture = data;
    /* No lock: everything runs on the loop's thread. */
    if (++fixture->count == POSTERS * POSTS)
        loop_stop(fixture->loop);
}

static void *post_many(void *data)
{
    struct fixture *fixture = data;
    for (int i = 0; i < POSTS; i++)
        loop_post(fixture->loop, count_post, fixture);
    return NULL;
}

static void posts_from_other_threads(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[POSTERS];
    for (size_t i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, fixture), 0);
    run(fixture);
    for (size_t i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(fixture->count, POSTERS * POSTS);
}

static void post_again(void *data)
{
    struct fixture *fixture = data;
    if (++fixture->count == 100)
        loop_stop(fixture->loop);
    else
        loop_post(fixture->loop, post_again, fixture);
}

static void posts_from_posts(void **state)
{
    struct fixture *fixture = *state;
    loop_post(fixture->loop, post_again, fixture);
    run(fixture);
    assert_int_equal(fixture->count, 100);
}

static void *stop_from_outside(void *data)
{
    loop_stop(((struct fixture *)data)->loop);
    return NULL;
}

static void stop_from_another_thread(void **state)
{
    struct fixture *fixture = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_from_outside, fixture), 0);
    run(fixture);
    pthread_join(thread, NULL);
}

static void posts_that_never_ran_are_dropped(void **state)
{
    struct fixture *fixture = *state;
    loop_post(fixture->loop, count_post, fixture);
    loop_free(fixture->loop);
    fixture->loop = NULL;
    assert_int_equal(fixture->count, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(descriptors),
        TEST(events_change),
        TEST(bad_descriptors_are_an_error),
        TEST(a_callback_ends_others_and_itself),
        TEST(timers),
        TEST(a_delay_of_zero_comes_at_once),
        TEST(signals),
        TEST(posts_from_other_threads),
        TEST(posts_from_posts),
        TEST(stop_from_another_thread),
        TEST(posts_that_never_ran_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
