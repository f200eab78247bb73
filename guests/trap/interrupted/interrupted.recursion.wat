;; Recursion of depth 64 that calls itself twice at each level: 2 to the 64th calls, no loop, little stack.
(module
  (memory (export "memory") 1)
  (func $f (param $depth i32) (result i32)
    (if (i32.eqz (local.get $depth))
      (then (return (i32.const 1))))
    (i32.add
      (call $f (i32.sub (local.get $depth) (i32.const 1)))
      (call $f (i32.sub (local.get $depth) (i32.const 1)))))
  (func (export "_start")
    (drop (call $f (i32.const 64)))))
