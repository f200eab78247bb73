;; A loop that keeps a count and stores it, so that it is not empty.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $n i64)
    (loop $again
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (i64.store (i32.const 0) (local.get $n))
      (br_if $again (i64.ne (local.get $n) (i64.const -1))))))
