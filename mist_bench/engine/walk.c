/* A list of calls, run by one thread or by several that share the parts of each step: see cpu_team.py. */

typedef unsigned long long word;
#define TAKE8(t) t, t, t, t, t, t, t, t
#define GIVE8(i) a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], a[i + 6], a[i + 7]
typedef void (*few)(TAKE8(word));
typedef void (*more)(TAKE8(word), TAKE8(word));
typedef void (*most)(TAKE8(word), TAKE8(word), TAKE8(word), TAKE8(word),
                     TAKE8(word), TAKE8(word), TAKE8(word), TAKE8(word));
typedef int (*system)(word);

/* a function ignores the arguments beyond its own */
static inline void call(word f, const word *a, word n) {
  if (n <= 8) ((few)f)(GIVE8(0));
  else if (n <= 16) ((more)f)(GIVE8(0), GIVE8(8));
  else ((most)f)(GIVE8(0), GIVE8(8), GIVE8(16), GIVE8(24), GIVE8(32), GIVE8(40), GIVE8(48), GIVE8(56));
}

/* job: address of the steps, their number, address of the words, cores, address of the state (and 8 words further the
   number of finished parts of the step), number of the walk, address of sched_yield */
static inline const word *step_at(const word *job, word i) { return (const word *)job[0] + 4 * i; }

static inline void do_part(const word *job, word i, word part) {
  const word *step = step_at(job, i);
  call(step[0], (const word *)job[2] + step[3] + part * step[2], step[2]);
}

/* The state is one word, so that a thread that takes a part by compare-and-swap knows that the walk has not advanced
   since it read the state: number of the walk, step, parts of the step, the next free part. No part is free while one
   thread runs steps of a single part. */
#define STATE(walk, i, parts, next) ((walk) << 40 | (i) << 16 | (parts) << 8 | (next))
#define FINISHED 0xffffull

/* run the steps from i on that have a single part; then publish the next step, whose parts all threads may take */
static inline void go_on(word *job, word walk, word i) {
  for (; i < job[1] && step_at(job, i)[1] == 1; i++) do_part(job, i, 0);
  ((word *)job[4])[8] = 0;
  word state = i < job[1] ? STATE(walk, i, step_at(job, i)[1], 0) : STATE(walk, 0, 0, FINISHED);
  __atomic_store_n((word *)job[4], state, __ATOMIC_RELEASE);
}

static inline void help(word *job) {
  word *state = (word *)job[4], spins = 0;
  for (;;) {
    word now = __atomic_load_n(state, __ATOMIC_ACQUIRE), parts = now >> 8 & 0xff, next = now & 0xff;
    if ((now & FINISHED) == FINISHED) return;
    if (next >= parts) {
      if (++spins > 4096) ((system)job[6])(0); /* another process may need the core */
    } else if (__atomic_compare_exchange_n(state, &now, now + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      spins = 0;
      word i = now >> 16 & 0xffffff;
      do_part(job, i, next);
      if (__atomic_add_fetch(state + 8, 1, __ATOMIC_ACQ_REL) == parts) go_on(job, now >> 40, i + 1);
    }
  }
}

static inline void alone(const word *job) {
  for (word i = 0; i < job[1]; i++)
    for (word part = 0; part < step_at(job, i)[1]; part++) do_part(job, i, part);
}

/* what 0: serve as a helper and never return; 1: walk, with as many helpers as the job has cores for */
void enter(word what, word *job, word core, word *wake, word wait, word post) {
  if (!what) for (;;) if (((system)wait)(wake[core]) == 0) help(job);
  if (job[3] == 1) { alone(job); return; }
  __atomic_store_n((word *)job[4], STATE(job[5], 0, 0, 0), __ATOMIC_RELEASE);
  for (word helper = 1; helper < job[3]; helper++) ((system)post)(wake[helper]);
  go_on(job, job[5], 0);
  help(job);
}
