#include <stdlib.h>

/* Memory that a thread keeps from call to call: fresh pages cost more than the sums made in them. */
static void *scratch(int slot, size_t size)
{
    static _Thread_local struct {
        void *memory;
        size_t size;
    } kept[4];
    if (kept[slot].size < size) {
        free(kept[slot].memory);
        size = (size + 63) / 64 * 64; /* vectors do not cross lines of the cache */
        kept[slot].memory = aligned_alloc(64, size);
        kept[slot].size = kept[slot].memory ? size : 0;
    }
    return kept[slot].memory;
}
