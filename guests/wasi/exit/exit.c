/* Ends with the exit code that the first argument says, which may be any 32-bit number. */
#include "../../common/number.h"
#include "../raw.h"

int main(int argc, char **argv)
{
    uint64_t code = 0;
    if (argc != 2 || !parse_unsigned(argv[1], UINT32_MAX, &code))
        return 2;
    raw_proc_exit((u32)code);
}
