/* Which tables were built, and which of them this CPU (and the system's saved register state) runs. The build names them
   in LF_ISAS, slowest first: LF_ISAS(X) is X(baseline) X(avx2) ... */
#include "tables.h"
#include "pointwise.h"
#include "profiles.h"
#include <string.h>

#define DECLARE(isa) extern const lf_table lf_table_##isa##_32, lf_table_##isa##_64;
LF_ISAS(DECLARE)

#define ENTRY(isa) {&lf_table_##isa##_32, &lf_table_##isa##_64},
static const lf_table *const tables[][2] = {LF_ISAS(ENTRY)};
enum { COUNT = sizeof tables / sizeof *tables };

#define NAME(name) #name,
const char *const lf_pointwise_names[] = {LF_POINTWISE(NAME) NULL};
const char *const lf_profile_names[] = {LF_PROFILES(NAME) NULL};

int lf_isa_count(void) { return COUNT; }
const char *lf_isa_name(int isa) { return tables[isa][0]->isa; }
const lf_table *lf_get_table(int isa, int dtype) { return tables[isa][dtype == 64]; }

int lf_isa_runs(int isa) {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
    const char *name = lf_isa_name(isa);
    __builtin_cpu_init(); /* these ask CPUID and XGETBV, so a system that does not save the registers counts as without */
    if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("avx2");
#endif
    (void)isa;
    return 1;
}
