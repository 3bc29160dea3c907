/* Loops over threads, where there are any and the work is worth it. */
#define TEXT(x) _Pragma(#x)
#ifdef _OPENMP
#define WORTH_IT 32768 /* elements from which several threads are faster than one */
#define PARALLEL_LOOP(size) TEXT(omp parallel for schedule(static) if ((size) > WORTH_IT))
#else
#define PARALLEL_LOOP(size)
#endif
