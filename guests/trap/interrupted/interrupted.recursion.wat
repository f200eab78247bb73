;; Recursion of depth 64 that calls itself twice at each level: 2 to the 64th calls, no loop, little stack. It counts its
;; calls, so that a compiler cannot make one call of two.
(module
  (memory (export "memory") 1)
  (global $calls (mut i64) (i64.const 0))
  (func $f (param $depth i32) (result i32)
    (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
    (if (i32.eqz (local.get $depth))
      (then (return (i32.const 1))))
    (i32.add
      (call $f (i32.sub (local.get $depth) (i32.const 1)))
      (call $f (i32.sub (local.get $depth) (i32.const 1)))))
  (func (export "_start")
    (drop (call $f (i32.const 64)))))
