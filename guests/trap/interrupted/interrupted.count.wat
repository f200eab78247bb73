;; A loop that steps through all numbers of 64 bits by a linear congruential generator, and stores each: a compiler can
;; neither leave it out nor know its end.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $n i64)
    (loop $again
      (local.set $n (i64.add (i64.mul (local.get $n) (i64.const 6364136223846793005)) (i64.const 1)))
      (i64.store (i32.const 0) (local.get $n))
      (br_if $again (i64.ne (local.get $n) (i64.const 0))))))
